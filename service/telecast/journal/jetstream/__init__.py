"""Many nodes, one log: NATS JetStream orders messages, and every node judges them alike.

`journal` is the contract's face, `stream` the log on JetStream, `message` what stands in it,
`nodes` the order of each sender's messages, `copy` the node's local database and `applier` its
thread. It may import the journal's contract, the SQLite store and the model.
"""
