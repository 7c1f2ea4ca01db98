"""In which order each node's messages count, whatever the log did to them on the way. Pure.

A node numbers its messages from 1 and sends some before the earlier ones are answered. The log may
keep one twice (an answer was lost and the node sent it again), keep a later one and lose an
earlier one (a leader changed), or bring one up long after its node gave up on it. So a message
counts only if its number is the next of its node, and never again once its node is fenced: what a
node does not see counted it sends again, in order.

What breaks it: taking a message whose number is not the next (events out of order, or lost), or
taking one of a fenced node (its sender was answered "unknown" and may have published anew).
`tests/unit/journal/test_jetstream_nodes.py` and the contract suite show it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

REMEMBER_MS = 24 * 3600 * 1000
"""How long, by the log's time, a node that has gone silent is remembered."""


class Verdict(Enum):
    NEXT = auto()
    """It counts."""
    REPEAT = auto()
    """It was counted already."""
    TOO_EARLY = auto()
    """One before it is not there: its node sends both again."""
    FENCED = auto()
    """Its node gave up on it."""


@dataclass(slots=True)
class Nodes:
    """What has been counted, by node: written by the copy alone, as it applies the log."""

    counted: dict[str, int] = field(default_factory=dict)
    """Node to the number of its last message that counted."""
    fenced: dict[str, None] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)
    """Node, fenced or not, to the log's time of its last message, in ms."""

    def judge(self, node: str, number: int) -> Verdict:
        if node in self.fenced:
            return Verdict.FENCED
        last = self.counted.get(node, 0)
        if number <= last:
            return Verdict.REPEAT
        return Verdict.NEXT if number == last + 1 else Verdict.TOO_EARLY

    def take(self, node: str, number: int, fences: Iterable[str], now: int) -> None:
        """Count a message that was judged NEXT, at the log's time in ms."""
        self.counted[node] = number
        self.seen[node] = now
        for other in fences:
            self.counted.pop(other, None)
            self.fenced[other] = None
            self.seen[other] = now
        for other in [name for name, at in self.seen.items() if at < now - REMEMBER_MS]:
            self.counted.pop(other, None)
            self.fenced.pop(other, None)
            del self.seen[other]

    def as_json(self) -> dict[str, list[int]]:
        """Node to [number or 0 for a fenced one, time]."""
        return {name: [self.counted.get(name, 0), at] for name, at in self.seen.items()}

    @classmethod
    def from_json(cls, kept: Mapping[str, tuple[int, int]]) -> Nodes:
        nodes = cls()
        for name, (number, at) in kept.items():
            nodes.seen[name] = at
            if number:
                nodes.counted[name] = number
            else:
                nodes.fenced[name] = None
        return nodes
