"""Whole copies of a node's database, kept beside the log, so that nobody has to read all of it.

`marks` says whose turn it is, `file` makes and checks one, `shelf` is where they are kept and
`objects` that on NATS, `keeper` makes them and trims the log, `newest` fetches one. It may import
the log, the SQLite store and the model.
"""
