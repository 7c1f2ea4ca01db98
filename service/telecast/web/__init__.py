"""HTTP in, bytes out: the doors, the REST calls, and what is seen from outside."""
