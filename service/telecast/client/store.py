"""Where a reader keeps its place between two runs of its program."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Protocol

from telecast.errors import PositionMalformed
from telecast.model import Position


class Store(Protocol):
    """Keeps one position. Both calls come from the event loop's thread, one after the other.

    `load` returns what `save` was last given, None at first. `save(None)` forgets the position: the
    rows that it was earned with are gone. What raises ends the `follow` that uses it.
    """

    def load(self) -> str | None:
        """Where to go on; None to begin as `since` says."""
        ...

    def save(self, position: str | None) -> None:
        """Everything up to this position was handled."""
        ...


class PositionFile:
    """A store in a file: replaced as a whole, so that a crash leaves the old place or the new.

    It is not flushed to the disk at each change. After a power cut the place may be an older one:
    then some changes come again, and none is missing.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """The folder must be there; the file need not."""
        self._path = Path(path)

    def load(self) -> str | None:
        """Raises ValueError where the file holds something else than a position."""
        try:
            text = self._path.read_text("utf-8").strip()
        except FileNotFoundError:
            return None
        try:
            return str(Position.parse(text)) if text else None
        except PositionMalformed:
            raise ValueError(
                f"{self._path} holds no position. Delete it to start over with a snapshot."
            ) from None

    def save(self, position: str | None) -> None:
        """Replace the file, or delete it for None."""
        if position is None:
            self._path.unlink(missing_ok=True)
            return
        descriptor, name = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(position)
            os.replace(name, self._path)
        except BaseException:
            os.unlink(name)
            raise
