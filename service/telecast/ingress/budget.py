"""How many rows a channel may have: a full channel takes no new row, and every change of one.

A key's newest row is never trimmed, neither in memory nor on the disk, so what bounds a channel is
the number of its keys. A desk's channels have thousands; a publisher that makes a new key for each
event would otherwise fill the memory, and again at every start.

Pure but for the tape that it reads. It counts what waits in the same group as new, so that many
small publishes at once can't pass together.
"""

from __future__ import annotations

from collections import Counter

from telecast.errors import Code, PeerFault
from telecast.ingress.derivation import Derivation
from telecast.tape.tape import Tape


class RowBudget:
    """For one group of publishes: ask `refusal` for each in order, `take` what goes with it."""

    def __init__(self, tape: Tape, most: int) -> None:
        self._tape = tape
        self._most = most
        self._taken: Counter[str] = Counter()

    def must_wait(self, derivation: Derivation) -> bool:
        """Whether it may fit, but only the tape after this group can tell."""
        taken = self._taken[derivation.channel]
        return taken > 0 and self._over(derivation, taken) and not self._over(derivation, 0)

    def refusal(self, derivation: Derivation) -> PeerFault | None:
        """ROWS_EXHAUSTED for one that would add rows beyond the budget."""
        if not self._over(derivation, self._taken[derivation.channel]):
            return None
        rows, new = len(self._tape.logs[derivation.channel].rows), derivation.new_rows()
        return PeerFault(
            Code.ROWS_EXHAUSTED,
            f"{derivation.channel} has {rows:,} rows and may have {self._most:,}; {new:,} of these "
            "would be new. Rows that are there can be changed and withdrawn.",
            {"maxRowsPerChannel": self._most, "rows": rows, "new": new},
        )

    def take(self, derivation: Derivation) -> None:
        self._taken[derivation.channel] += derivation.changed

    def _over(self, derivation: Derivation, taken: int) -> bool:
        rows = len(self._tape.logs[derivation.channel].rows) + taken
        if rows + derivation.changed <= self._most:
            return False  # without looking at each: all of a desk's publishes
        new = derivation.new_rows()
        return new > 0 and rows + new > self._most
