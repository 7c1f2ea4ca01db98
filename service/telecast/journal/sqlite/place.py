"""Whether the journal's names still lead to the files that are open, and how large they are."""

from __future__ import annotations

import os
from dataclasses import dataclass

BESIDE = ("", "-wal", "-shm")
"""The database, its log, and the memory that those who read it share."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes on the disk."""

    database: int = 0
    log: int = 0


class Place:
    """What a path meant when the journal was opened.

    A file that is moved or deleted under an open journal takes commits for as long as the process
    lives, and nobody can open it afterwards: so a name that leads elsewhere is the end of
    acknowledging. `name` is the one that was configured: it may be a link that is moved.
    """

    def __init__(self, name: str) -> None:
        self.sizes = Sizes()
        self._name = name
        self._known: dict[str, tuple[int, int]] = {}

    def look(self) -> str | None:
        """What is wrong, as a sentence; None while all is in its place. Three `stat` calls."""
        sizes = {}
        for suffix in BESIDE:
            name = self._name if not suffix else f"{os.path.realpath(self._name)}{suffix}"
            try:
                found = os.stat(name)
            except FileNotFoundError:
                found = None
            except OSError as error:  # such as a folder that may not be entered any more
                return f"{name} can't be found any more ({error.strerror}){_ADVICE}"
            if found is None:
                if not suffix or suffix in self._known:
                    return f"{name} was moved or deleted{_ADVICE}"
                continue
            here = (found.st_dev, found.st_ino)
            if self._known.setdefault(suffix, here) != here:
                return f"Another file lies at {name}{_ADVICE}"
            sizes[suffix] = found.st_size
        self.sizes = Sizes(sizes.get("", 0), sizes.get("-wal", 0))
        return None


_ADVICE = (
    " while the service had it open: nothing more is acknowledged. Put the file and those beside "
    "it back, then restart the service."
)
