"""What a check of `telecast doctor` raises."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Trouble(Exception):
    """What is wrong, and what to do about it."""

    what: str
    fix: str
    fatal: bool = False
    """Nothing that follows can work."""
