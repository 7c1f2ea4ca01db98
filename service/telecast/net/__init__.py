"""Admission, once they are ours: admission from the accept on, wires that write and read a stream.

Bytes and deadlines come in, nothing of HTTP does. It may import `errors` and what the fan-out asks
of a sink.
"""
