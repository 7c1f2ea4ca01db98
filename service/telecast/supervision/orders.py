"""What the crew decides, for the parent to carry out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Start:
    number: int


@dataclass(frozen=True, slots=True)
class End:
    """Ask a worker to go: it drains. `notice`: /readyz says so first, for `drain_notice`."""

    number: int
    notice: bool


@dataclass(frozen=True, slots=True)
class Abort:
    """Have a worker that hangs write where it stands, and end."""

    number: int


@dataclass(frozen=True, slots=True)
class Kill:
    """It was asked to go and does not, or hangs."""

    number: int


@dataclass(frozen=True, slots=True)
class Serving:
    """All workers are up for the first time."""


@dataclass(frozen=True, slots=True)
class Finish:
    """All is over. `error` is what the operator is shown."""

    status: int
    error: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Say:
    """A line for the log."""

    level: int
    event: str
    fields: Mapping[str, Any] = field(default_factory=dict)


Order = Start | End | Abort | Kill | Serving | Finish | Say
