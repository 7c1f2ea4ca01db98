"""Commands that read channels or publish to them, through a running service."""
