"""Which refusals have a line of their own: of a storm of them there is a count, once a second."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable

log = logging.getLogger(__name__)

EACH_SECOND = 10
"""Refusals of one code that have their own line in a second. A person reads no more, and a client
that asks in a loop would fill the disk."""


class Refusals:
    """`later` is the loop's call_later: what was left out is counted in a line of its own."""

    def __init__(self, later: Callable[[float, Callable[[], None]], object] | None = None) -> None:
        self._later = later
        self._seen: Counter[str] = Counter()
        self._windowed = False

    def worth_a_line(self, code: str) -> bool:
        """Count a refusal; False where it is left to the count."""
        if not self._windowed:
            self._windowed = True
            later = self._later or asyncio.get_running_loop().call_later
            later(1.0, self._end)
        self._seen[code] += 1
        return self._seen[code] <= EACH_SECOND

    def _end(self) -> None:
        """The second is over."""
        self._windowed = False
        seen, self._seen = self._seen, Counter()
        for code, count in seen.items():
            if count > EACH_SECOND:
                log.warning(
                    "refusals without a line", extra={"code": code, "count": count - EACH_SECOND}
                )
