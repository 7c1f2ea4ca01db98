"""One connection at a time: how it is made, what it says, and which one is tried next.

In come addresses, keys and bytes; out come messages' JSON, or why the connection is over. What the
messages mean is the stream's. Imports `errors`, `model`, `protocol`, and the client's `faults`.
"""
