"""Writes log lines from a thread of its own, so that a reader that has stopped holds up nobody.

A pipe whose reader has stopped (Ctrl-S, a stuck `| logger`, a wedged container runtime) takes some
64 KiB and then blocks whoever writes. That must never be the event loop: so lines wait here,
bounded in number and bytes. What does not fit is dropped and counted, and the count is written
as soon as the reader goes on.
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Callable

MOST_LINES = 10_000
MOST_BYTES = 8 * 2**20
AT_ONCE = 64 * 1024
"""Bytes handed to the system in one write, or one line."""


class LineWriter:
    """`put` never blocks. `about_dropped` makes the line that says how many were dropped."""

    def __init__(
        self,
        descriptor: int,
        about_dropped: Callable[[int], str],
        *,
        most_lines: int = MOST_LINES,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self.dropped = 0
        """Lines that were dropped since the start."""
        self._descriptor = descriptor
        self._about_dropped = about_dropped
        self._most_lines = most_lines
        self._most_bytes = most_bytes
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._unsaid = 0
        """Dropped lines that no line has reported yet."""
        self._busy = False
        self._closed = False
        self._changed = threading.Condition()
        # Not waited for when the process ends: its write may never return.
        self._thread = threading.Thread(target=self._run, name="telecast-logs", daemon=True)
        self._thread.start()

    def put(self, line: str) -> None:
        data = line.encode(errors="backslashreplace") + b"\n"
        with self._changed:
            full = (
                len(self._lines) >= self._most_lines or self._bytes + len(data) > self._most_bytes
            )
            if full or self._closed:
                self.dropped += 1
                self._unsaid += not self._closed
            else:
                self._lines.append(data)
                self._bytes += len(data)
            self._changed.notify_all()

    def flush(self, seconds: float) -> bool:
        """Wait until everything is written, at most so long; returns whether it is."""
        with self._changed:
            return self._changed.wait_for(self._idle, seconds)

    def close(self, seconds: float) -> None:
        """Write what waits, for at most so long, then take no more."""
        with self._changed:
            self._changed.wait_for(self._idle, seconds)
            self._closed = True
            self._changed.notify_all()

    def _idle(self) -> bool:
        return not self._lines and not self._busy and not self._unsaid

    def _run(self) -> None:
        while (piece := self._next()) is not None:
            self._write(piece)
            with self._changed:
                self._busy = False
                self._changed.notify_all()

    def _next(self) -> bytes | None:
        with self._changed:
            self._changed.wait_for(lambda: self._lines or self._unsaid or self._closed)
            if not self._lines and not self._unsaid:
                return None
            piece: list[bytes] = []
            size = 0
            while self._lines and (not piece or size + len(self._lines[0]) <= AT_ONCE):
                piece.append(self._lines.popleft())
                size += len(piece[-1])
            self._bytes -= size
            self._busy = True
            unsaid = 0
            if not self._lines:
                # In its place: behind the lines that were kept before the first was dropped.
                unsaid, self._unsaid = self._unsaid, 0
        if unsaid:
            piece.append(self._about_dropped(unsaid).encode(errors="backslashreplace") + b"\n")
        return b"".join(piece)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._descriptor, view) :]
            except BlockingIOError:
                select.select([], [self._descriptor], [])
            except OSError:
                # Nobody reads any more, and there is nowhere left to say so.
                with self._changed:
                    self.dropped += data.count(b"\n")
                return
