"""What one node asks the others, and how it answers what they ask.

Questions come in over the journal's peers and are judged by the asker's key, as this node knows it.
It may import what `web` may.
"""
