"""How long a stream has taken no byte while some waited.

A heartbeat makes bytes wait for a moment on every healthy stream, so one look proves nothing. The
time counts from the first of several looks at all of which bytes waited and none had been taken
since. It is never more than the truth, and less by at most the time between two looks: a healthy
stream is never called stale.
"""

from __future__ import annotations

from telecast.fanout.sink import Sink

LOOK_SECONDS = 5.0
"""Between two looks at each SSE stream. A look is one system call, or two where bytes wait."""


class Progress:
    """What the looks at one sink have found."""

    __slots__ = ("_acknowledged", "_buffered", "_since")

    def __init__(self) -> None:
        self._since: float | None = None
        self._acknowledged: int | None = None
        self._buffered = 0

    def look(self, sink: Sink, now: float) -> float:
        """Look again; seconds for which no byte was taken while some waited, as of `now`."""
        buffered = sink.buffered()
        if not buffered:
            self._since = None
            return 0.0
        acknowledged = sink.acknowledged()
        # Where TCP does not say what was acknowledged, less that waits is what shows progress.
        if acknowledged is None:
            moved = buffered < self._buffered
        else:
            moved = acknowledged != self._acknowledged
        self._acknowledged, self._buffered = acknowledged, buffered
        if self._since is None or moved:
            self._since = now
        return now - self._since
