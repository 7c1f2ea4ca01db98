"""What liveness knows of one subscriber, in a value of its own."""

from __future__ import annotations


class Watch:
    """Liveness alone changes it; others report what they see by a method."""

    __slots__ = (
        "acknowledged",
        "looking",
        "silent_beats",
        "stalled_bytes",
        "stalled_checks",
        "stuck_beats",
        "ticks",
    )

    def __init__(self) -> None:
        self.ticks = 0
        """Of its timer, until the next heartbeat."""
        self.silent_beats = 0
        """Heartbeats since the peer's last frame."""
        self.stuck_beats = 0
        """Heartbeats at which bytes waited and none had been acknowledged since the last."""
        self.acknowledged: int | None = 0
        self.looking = False
        """Whether a timer looks at its full sink; then with how many bytes in it, and how often
        none had left."""
        self.stalled_bytes = 0
        self.stalled_checks = 0

    def heard(self) -> None:
        """A frame of the peer has come."""
        self.silent_beats = 0

    def added(self, size: int) -> None:
        """We have written more into a sink that is full: that must not hide what the peer took."""
        self.stalled_bytes += size
