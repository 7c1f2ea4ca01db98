"""What looks at the running service: how late its loop is, what the system says of its process, and
which channels have gone quiet.

Time and the tape come in; what goes out is a count, a log line, or a message to subscribers. It
may import what `ingress` may, and nothing of `web`.
"""
