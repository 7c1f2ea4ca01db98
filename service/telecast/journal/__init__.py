"""Where events are kept: one contract (`base`), several implementations."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from telecast.errors import SettingsError
from telecast.journal.base import Journal
from telecast.journal.memory import MemoryJournal
from telecast.journal.sqlite.journal import SqliteJournal
from telecast.model import Retention

__all__ = ["journal_from_url"]


def journal_from_url(
    url: str, retention: Mapping[str, Retention], *, now: Callable[[], float] = time.time
) -> Journal:
    """The journal that a setting names, not yet open. Raises SettingsError for any other form.

    `memory:` keeps nothing beyond the process; `sqlite:PATH` keeps a file, made if it is not
    there, in a directory that is. `now` is in seconds since 1970.
    """
    scheme, colon, path = url.partition(":")
    if colon and scheme == "memory" and not path:
        return MemoryJournal(retention, now=now)
    if colon and scheme == "sqlite" and path and path != ":memory:" and "\0" not in path:
        return SqliteJournal(path, retention, now=now)
    raise SettingsError(
        [f"The journal is memory: or sqlite:PATH (such as sqlite:telecast.db), not {url!r}."]
    )
