"""The two streaming transports: `ws` and `sse`, what they share, and how a request becomes a
stream.

Requests come in whose sender is known; from `takeover` on the socket belongs to `net`.
"""
