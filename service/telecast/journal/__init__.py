"""Where events are kept: one contract (`base`), several implementations."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

from telecast.errors import SettingsError
from telecast.journal.ageing import monotonic
from telecast.journal.base import Journal
from telecast.journal.memory import MemoryJournal
from telecast.journal.sqlite.journal import SqliteJournal
from telecast.model import Retention

__all__ = ["journal_from_url"]


def journal_from_url(
    url: str,
    retention: Mapping[str, Retention],
    *,
    now: Callable[[], float] = time.time,
    elapsed: Callable[[], float] = monotonic,
) -> Journal:
    """The journal that a setting names, not yet open. Raises SettingsError for any other form.

    `memory:` keeps nothing beyond the process; `sqlite:PATH` keeps a file, made if it is not
    there, in a directory that is; `~` is the user's home. `now` is in
    seconds since 1970, `elapsed` in seconds of monotonic time.
    """
    scheme, colon, path = url.partition(":")
    if colon and scheme == "memory" and not path:
        return MemoryJournal(retention, now=now, elapsed=elapsed)
    if colon and scheme == "sqlite" and path and path != ":memory:" and "\0" not in path:
        return SqliteJournal(os.path.expanduser(path), retention, now=now, elapsed=elapsed)
    raise SettingsError(
        [f"The journal is memory: or sqlite:PATH (such as sqlite:telecast.db), not {url!r}."]
    )
