"""What the log says about checkpoints: whose turn it is to make one, and which one is the newest.

A node that finds one due claims it; the first claim in the log wins, so that not all nodes make one
at once. Whoever has made one says so; it counts if no other was made since the one that it comes
after. A claim whose node has died lapses by the log's time. Pure: each node judges alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

CLAIM_MS = 5 * 60 * 1000
"""How long, by the log's time, a claim keeps others from making a checkpoint."""
MESSAGE_WEIGHT = 1024
"""What a message counts beside its bytes: applying it costs about as much as so many more."""


@dataclass(frozen=True, slots=True)
class Claim:
    """`after` names the newest checkpoint that its node knew of; empty before the first."""

    after: str


@dataclass(frozen=True, slots=True)
class Made:
    """A checkpoint is kept, whole; it covers the log up to `sequence`."""

    after: str
    name: str
    sequence: int


Mark = Claim | Made


@dataclass(frozen=True, slots=True)
class Marks:
    """What came of all marks so far. `claimed`: the time of the claim that holds, 0 for none;
    `weight`: of the messages since the newest checkpoint was announced."""

    name: str = ""
    sequence: int = 0
    claimed: int = 0
    weight: int = 0

    def after(self, size: int) -> Marks:
        """Once another message of so many bytes is applied."""
        return replace(self, weight=self.weight + size + MESSAGE_WEIGHT)

    def free(self, now: int) -> bool:
        """Whether a claim would win now, in ms of the log's time."""
        return not self.claimed or now - self.claimed >= CLAIM_MS

    def judge(self, mark: Mark, now: int) -> Marks | None:
        """What holds after it, None where it does not count."""
        if mark.after != self.name:
            return None
        if isinstance(mark, Claim):
            return replace(self, claimed=now) if self.free(now) else None
        return Marks(mark.name, mark.sequence) if mark.sequence > self.sequence else None


def described(mark: Mark) -> list[Any]:
    if isinstance(mark, Claim):
        return ["claim", mark.after]
    return ["made", mark.after, mark.name, mark.sequence]


_KINDS: Mapping[str, Callable[..., Mark]] = {"claim": Claim, "made": Made}


def read(fields: list[Any]) -> Mark:
    """Raises KeyError, TypeError or ValueError for anything else."""
    kind, *rest = fields
    return _KINDS[kind](*rest)
