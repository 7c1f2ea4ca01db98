"""From a commit to every subscriber: cohorts, backfill, liveness, and the broadcaster that owns
them.

Events come in from the relay, subscribers from the transports. It may import the tape and what is
below it, never a journal or a socket.
"""
