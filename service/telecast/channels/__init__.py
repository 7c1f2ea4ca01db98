"""What is told: the channel catalogue and the schemas of its payloads."""
