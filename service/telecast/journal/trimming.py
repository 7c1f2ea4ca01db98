"""What a channel's retention lets go of. Pure; the same for every journal that trims itself.

A journal looks at a channel's entries once each, oldest first, and remembers how far it looked
(`through`, never below the floors). A key's newest live row stays when it is looked at; when it
is superseded later, the commit that does so says which one, and the next trim removes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from telecast.model import Floor

TRIM_MOST = 5000
"""Entries that one `trim` looks at: about 20 ms of the writer, which commits wait for."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An entry beyond `through`. `live`: its key's newest row. `lasting`: pinned or tombstone."""

    seq: int
    timestamp: int
    live: bool
    lasting: bool
    size: int


def overdue(candidates: Sequence[Candidate], *, excess: int, before: float, heavy: int = 0) -> int:
    """How many of the oldest entries are beyond the retention: by count, by age (ms), by bytes.

    It stops at the first that is covered by all, so that what is left is whole. A clock that
    was set back may leave an old entry behind a younger one: it goes when that one does.
    """
    for index, candidate in enumerate(candidates):
        if index >= excess and candidate.timestamp >= before and heavy <= 0:
            return index
        heavy -= candidate.size
    return len(candidates)


def raised(floor: Floor, gone: Iterable[tuple[int, bool]]) -> Floor:
    """The floor once the entries (seq, lasting) went."""
    whole_from, compact_from = floor.whole_from, floor.compact_from
    for seq, lasting in gone:
        whole_from = max(whole_from, seq)
        if lasting:
            compact_from = max(compact_from, seq)
    return Floor(whole_from, compact_from)
