"""The default journal: one SQLite file, one writer thread, group commit.

`journal` is the contract's face, `store` the database as the writer sees it, `reading` and
`readers` everybody else's view. It may import the journal's contract and the model.
"""
