"""Telecast: real-time telemetry for trading systems, over WebSocket and Server-Sent Events."""

__version__ = "0.2.0"
