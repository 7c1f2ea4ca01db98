"""How long a stream has taken no byte while some waited: never more than the truth."""

from __future__ import annotations

from typing import Any

import pytest

from telecast.clients.progress import Progress


class Line:
    """A sink of which these two are asked."""

    def __init__(self, buffered: int = 0, acknowledged: int | None = 0) -> None:
        self.waits = buffered
        self.taken = acknowledged

    def buffered(self) -> int:
        return self.waits

    def acknowledged(self) -> int | None:
        return self.taken


def stale(*looks: tuple[float, int, int | None]) -> float:
    """The answer of the last look of these: (time, bytes that wait, acknowledged)."""
    progress, found = Progress(), 0.0
    for now, waits, taken in looks:
        line: Any = Line(waits, taken)
        found = progress.look(line, now)
    return found


@pytest.mark.parametrize(
    ("looks", "seconds"),
    [
        (
            [(0, 0, 7), (100, 0, 7)],
            0,
        ),
        (
            [(0, 0, 7), (100, 9, 7)],
            0,
        ),
        ([(0, 9, 7), (5, 9, 7), (10, 9, 7)], 10),
        ([(0, 9, 7), (5, 9, 8), (10, 9, 8)], 5),
        ([(0, 9, 7), (5, 0, 16), (10, 9, 16)], 0),
        ([(0, 9, 7), (5, 20, 7), (10, 50, 7)], 10),
        ([(0, 9, None), (5, 9, None)], 5),
        ([(0, 9, None), (5, 8, None), (10, 9, None)], 5),
    ],
)
def test_time_counts_while_bytes_wait_and_none_is_taken(looks: Any, seconds: float) -> None:
    assert stale(*looks) == seconds
