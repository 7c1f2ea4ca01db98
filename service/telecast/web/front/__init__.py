"""Around every request: connections, heads, bodies, middlewares, CORS, and how an answer looks.

What is no HTTP ends here. It knows no channel and no stream.
"""
