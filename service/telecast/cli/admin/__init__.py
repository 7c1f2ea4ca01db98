"""Commands for the operator: keys and the journal's file."""
