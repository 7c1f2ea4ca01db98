"""The newest part of the journal in memory, and what a selection gets from it. Pure.

Entries and positions come in; no loop, no socket, no clock. It may import the catalogue, the
protocol and the model.
"""
