"""The table of `telecast top`: what it shows and what a key press does. Pure.

It has three modes: looking, typing a filter, and asking whether to end a connection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from telecast.cli.admin.clients import COLUMNS, cells_of
from telecast.cli.readable import table

SORTS = {"l": "lagEvents", "b": "unsentBytes", "c": "conflated", "s": "staleSeconds"}
HELP = "l lag  b bytes  c conflated  s stale  / filter  up,down  k end  q quit"
ENTER, BACK, ESCAPE = "\r", "\x7f", "\x1b"
UP, DOWN = "\x1b[A", "\x1b[B"


class Mode(Enum):
    LOOKING = "looking"
    TYPING = "typing a filter"
    ASKING = "asking whether to end a connection"


MOVES: Mapping[Mode, frozenset[Mode]] = {
    Mode.LOOKING: frozenset({Mode.TYPING, Mode.ASKING}),
    Mode.TYPING: frozenset({Mode.LOOKING}),
    Mode.ASKING: frozenset({Mode.LOOKING}),
}


class Board:
    """`press` returns `quit`, `kick`, or None; `chosen` is the connection that is selected."""

    def __init__(self, sort: str = "l") -> None:
        self.mode = Mode.LOOKING
        self.filter = ""
        self.said = ""
        self._sort = SORTS[sort]
        self._clients: Sequence[Mapping[str, Any]] = ()
        self._chosen: str | None = None
        self._asked: str | None = None

    def take(self, clients: Sequence[Mapping[str, Any]]) -> None:
        """The connections as they are now."""
        self._clients = clients

    @property
    def shown(self) -> list[Mapping[str, Any]]:
        """Those that the filter lets through, the worst first."""
        wanted = self.filter.lower()
        found = [
            client
            for client in self._clients
            if not wanted or any(wanted in cell.lower() for cell in cells_of(client)[:5])
        ]
        return sorted(found, key=lambda client: -client[self._sort])

    @property
    def chosen(self) -> str | None:
        ids = [str(client["connectionId"]) for client in self.shown]
        if self._chosen in ids:
            return self._chosen
        return ids[0] if ids else None

    @property
    def asked(self) -> str | None:
        """The connection that the question is about."""
        return self._asked

    def press(self, key: str) -> str | None:
        if self.mode is Mode.TYPING:
            self._type(key)
            return None
        if self.mode is Mode.ASKING:
            self._move(Mode.LOOKING)
            return "kick" if key in "yY" else None
        self.said = ""
        if key in ("q", "\x03"):
            return "quit"
        if key in SORTS:
            self._sort = SORTS[key]
        elif key == "/":
            self._move(Mode.TYPING)
        elif key in (UP, DOWN):
            self._step(1 if key == DOWN else -1)
        elif key == "k" and self.chosen is not None:
            self._asked = self.chosen
            self._move(Mode.ASKING)
        return None

    def _type(self, key: str) -> None:
        if key == ENTER:
            self._move(Mode.LOOKING)
        elif key == ESCAPE:
            self.filter = ""
            self._move(Mode.LOOKING)
        elif key == BACK:
            self.filter = self.filter[:-1]
        elif key.isprintable():
            self.filter += key

    def _step(self, by: int) -> None:
        ids = [str(client["connectionId"]) for client in self.shown]
        if ids:
            at = ids.index(self.chosen or ids[0]) + by
            self._chosen = ids[min(max(at, 0), len(ids) - 1)]

    def _move(self, mode: Mode) -> None:
        if mode not in MOVES[self.mode]:
            raise ValueError(f"{self.mode} can't become {mode}.")
        self.mode = mode

    def lines(self, width: int, height: int) -> list[tuple[str, bool]]:
        """(text, whether it is the chosen one) of each line; the first is the head."""
        clients = self.shown
        chosen = self.chosen
        rows = table([[*COLUMNS], *map(cells_of, clients)])
        first = 0
        if chosen is not None and height > 1:
            at = next(n for n, each in enumerate(clients) if each["connectionId"] == chosen)
            first = max(0, at - (height - 2))
        found = [(rows[0][:width], False)]
        for client, row in list(zip(clients, rows[1:], strict=True))[first : first + height - 1]:
            found.append((row[:width], client["connectionId"] == chosen))
        return found

    def foot(self) -> str:
        if self.mode is Mode.ASKING:
            return f"End {self._asked}? y ends it, any other key does not."
        if self.mode is Mode.TYPING:
            return f"filter: {self.filter}_"
        if self.said:
            return self.said
        return HELP + (f"  [{self.filter}]" if self.filter else "")
