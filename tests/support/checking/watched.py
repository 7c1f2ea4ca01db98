"""`telecast`, with short retentions, and a byte that says what its journal's writer does.

Run in place of the command: `python watched.py serve`. WATCHED names a file of one byte: b"C" while
a group is being committed, b"T" while entries are being trimmed, b"-" else. It is memory that is
shared: what it said last outlives a kill.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any

KEEP = {"market-data": 2_000, "positions": 600, "risk-alerts": 200, "trader-status": 200}
"""Events of each channel: soon there are more, and then every commit leaves something to trim."""
TRIM_SECONDS = 0.02
COMMITS, TRIMS, RESTS = b"C", b"T", b"-"


def byte(path: Path) -> mmap.mmap:
    """The byte of that file, as it is now and will be."""
    if not path.exists():
        path.write_bytes(RESTS)
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), 1)


def main() -> None:
    from telecast import cli, tasks
    from telecast.channels.catalogue import CHANNELS
    from telecast.journal.sqlite.store import Store

    shown = byte(Path(os.environ["WATCHED"]))
    write = Store._write

    def watched(store: Store, sql: str, parameters: tuple[Any, ...]) -> None:
        doing = COMMITS if "INTO commits" in sql else TRIMS if "INTO trims" in sql else RESTS
        shown[:1] = doing
        try:
            write(store, sql, parameters)
        finally:
            shown[:1] = RESTS

    Store._write = watched  # type: ignore[method-assign]
    tasks.TRIM_SECONDS = TRIM_SECONDS
    for name, events in KEEP.items():
        object.__setattr__(CHANNELS[name].retention, "events", events)
    cli.main()


if __name__ == "__main__":
    main()
