"""One line of the table of settings, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from marshmallow import validate

from telecast.config.kinds import KINDS, WRONG

PREFIX = "TELECAST_"


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """One line of the table. `least` and `most` are inclusive and in `unit`."""

    name: str = ""
    default: Any = None
    kind: str
    unit: str
    why: str
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return PREFIX + self.name.upper()

    @property
    def shown_default(self) -> str:
        """The default as one would write it; empty where there is none."""
        if isinstance(self.default, tuple):
            return ",".join(self.default)
        return "" if self.default is None else str(self.default)

    @property
    def right(self) -> str:
        """What would be a right value, as the end of a sentence."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        said: str = KINDS[self.kind].said
        bounds = f" from {self.least:,.15g} to {self.most:,.15g}" if self.most is not None else ""
        return said + bounds + (f" ({self.unit})" if self.unit else "")

    @property
    def validators(self) -> list[validate.Validator]:
        found: list[validate.Validator] = []
        if self.choices:
            found.append(validate.OneOf(self.choices, error=WRONG))
        if self.most is not None:
            found.append(validate.Range(self.least, self.most, error=WRONG))
        return found
