"""The service, in this process or as one of its own, and what stands in front of it."""
