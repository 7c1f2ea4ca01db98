"""Bytes that requests hold: bodies that are not complete yet, and answers that nobody reads.

Each of them is bounded by itself, but not how many there are: one key could hold hundreds, of
megabytes each. A full budget refuses what comes next, never what is under way.
"""

from __future__ import annotations

from collections import Counter

from telecast.errors import Code, PeerFault


class Budget:
    """What is taken is given back by whoever took it. `refused` counts since the start."""

    def __init__(self, name: str, most: int, most_per_key: int) -> None:
        """`name` is that of the setting for the whole process, in bytes."""
        self.refused = 0
        self._name = name
        self._most = most
        self._most_per_key = most_per_key
        self._by_key: Counter[str] = Counter()
        self._taken = 0

    def __len__(self) -> int:
        """Bytes that are taken now."""
        return self._taken

    def take(self, key: str, size: int) -> None:
        """Raises PeerFault TOO_MUCH_AT_ONCE, and takes nothing."""
        per_key = self._by_key[key] + size > self._most_per_key
        if per_key or self._taken + size > self._most:
            self.refused += 1
            self._clean(key)
            name = f"{self._name}_per_key" if per_key else self._name
            most = self._most_per_key if per_key else self._most
            raise PeerFault(
                Code.TOO_MUCH_AT_ONCE,
                f"What is under way would pass {name} ({most}).",
                {name: most},
                retry_after=1,
            )
        self._by_key[key] += size
        self._taken += size

    def give_back(self, key: str, size: int) -> None:
        self._by_key[key] -= size
        self._taken -= size
        self._clean(key)

    def _clean(self, key: str) -> None:
        if not self._by_key[key]:
            del self._by_key[key]
