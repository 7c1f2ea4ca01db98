"""Ends a process while its journal is being written, and tells from the log that it was."""

from __future__ import annotations

import mmap
import os
import signal
import time
from pathlib import Path

PATIENCE = 90.0
"""Seconds in which the moment for a kill must come."""


def kill_in_commit(pid: int, log: Path, looks: int) -> None:
    """Wait, in a thread, until the journal's log is being written; kill then.

    `looks` are changes of the log that are let pass first.
    """
    before = _state(log)
    while True:
        now = _state(log)
        if now != before:
            if not looks:
                break
            before, looks = now, looks - 1
    os.kill(pid, signal.SIGKILL)


def kill_while(
    pid: int, shown: mmap.mmap, doing: bytes, log: Path | None, *, times: int, spins: int
) -> None:
    """Wait, in a thread, until `watched` says for the so manieth time that it does this; kill
    then, up to so many looks later; with a `log`, once that is being written.

    What `shown` says after the death was not finished.
    """
    until = time.monotonic() + PATIENCE
    while True:
        while shown[:1] == doing:
            pass
        before = log and _state(log)
        while shown[:1] != doing:
            assert time.monotonic() < until, f"it never came to {doing!r}"
        times -= 1
        if times > 0:
            continue
        while log and shown[:1] == doing and _state(log) == before:
            pass
        for _ in range(spins):
            if shown[:1] != doing:
                break
        if shown[:1] == doing:
            break
    os.kill(pid, signal.SIGKILL)


def _state(log: Path) -> tuple[int, int] | None:
    try:
        found = log.stat()
    except FileNotFoundError:
        return None
    return found.st_size, found.st_mtime_ns


def torn(log: Path) -> int:
    """Pages at the log's end whose commit was not written any more (SQLite's format of it)."""
    data = log.read_bytes() if log.exists() else b""
    size, salts = int.from_bytes(data[8:12], "big"), data[16:24]
    loose = 0
    for start in range(32, len(data) - 24, 24 + size) if size else ():
        frame = data[start : start + 24]
        if frame[8:16] != salts:
            break
        loose = 0 if any(frame[4:8]) else loose + 1
    return loose
