"""Clients on bare sockets, one or thousands, and lines that can be cut."""
