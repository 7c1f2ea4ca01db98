"""A pytest kit for those who write clients: a service in a fixture, and all that may go wrong.

In come a user's tests. It may import all of Telecast but the command line; nothing imports it.
"""
