"""What is published: the channel catalogue and the schemas of its payloads."""
