"""Telecast beside its peers, measured side by side on one machine: docs/bench.md says how."""
