"""Commands that run a service or load it: serve, demo, bench."""
