"""Keys that are none, by the address they come from.

A key has 256 random bits: it can't be guessed, however often one tries. What is bounded here is the
noise. A right key is let in at any time, also from an address that others guess from: a bot that
was left with an old key must not lock out those beside it.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable

from telecast.errors import Code, PeerFault
from telecast.protocol.limits import TokenBucket

log = logging.getLogger(__name__)

PER_SECOND = 0.2
BURST = 20
"""Wrong keys of one address that are answered plainly: a person who mistypes, a fleet with an old
key."""
MOST_ADDRESSES = 4_096
"""Remembered, the latest; about 1 MB."""
WINDOW_SECONDS = 60.0
"""Between two lines in the log."""


class Guesses:
    """Counts what was shown and is no key. `clock` is in seconds."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.answered: Counter[str] = Counter()
        """Error code to answers, since the start."""
        self._clock = clock
        self._addresses: OrderedDict[str, TokenBucket] = OrderedDict()
        self._logged_at = -WINDOW_SECONDS
        self._unlogged = 0

    def wrong(self, address: str, fault: PeerFault) -> PeerFault:
        """What to answer: the fault, or TOO_MANY_WRONG_KEYS once it is too many."""
        now = self._clock()
        bucket = self._addresses.pop(address, None) or TokenBucket(PER_SECOND, BURST, now)
        self._addresses[address] = bucket
        if len(self._addresses) > MOST_ADDRESSES:
            self._addresses.popitem(last=False)
        if not bucket.take(now):
            self._tell(now, address)
            wait = round(1 + bucket.wait(), 1)
            fault = PeerFault(
                Code.TOO_MANY_WRONG_KEYS,
                "Too many wrong keys come from this address.",
                retry_after=wait,
            )
        self.answered[fault.code] += 1
        return fault

    def _tell(self, now: float, address: str) -> None:
        self._unlogged += 1
        if now - self._logged_at >= WINDOW_SECONDS:
            log.warning(
                "many wrong keys", extra={"remote": address, "since_last_line": self._unlogged}
            )
            self._logged_at, self._unlogged = now, 0
