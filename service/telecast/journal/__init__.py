"""Where events are kept: one contract (`base`), several implementations."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from telecast.errors import SettingsError
from telecast.journal.ageing import monotonic
from telecast.journal.base import Journal, KeyLimits
from telecast.journal.jetstream.address import Access, NodeOptions, parse_address
from telecast.journal.memory import MemoryJournal
from telecast.journal.sqlite.journal import SqliteJournal
from telecast.model import Retention

__all__ = ["Access", "NodeOptions", "journal_from_url", "nats_installed"]


def journal_from_url(
    url: str,
    retention: Mapping[str, Retention],
    *,
    now: Callable[[], float] = time.time,
    elapsed: Callable[[], float] = monotonic,
    node: NodeOptions | None = None,
    limits: KeyLimits | None = None,
    memory_bytes: int | None = None,
) -> Journal:
    """The journal that a setting names, not yet open. Raises SettingsError for any other form.

    `memory:` keeps nothing beyond the process; `sqlite:PATH` keeps a file, made if it is not
    there, in a directory that is; `~` is the user's home. `nats://HOST:4222/NAME` is a log that
    several nodes share; `node` says what else that takes. `now` is in seconds since 1970,
    `elapsed` in seconds of monotonic time. `memory_bytes` bounds the history of `memory:`.
    """
    scheme, colon, path = url.partition(":")
    if colon and scheme == "memory" and not path:
        return MemoryJournal(
            retention, now=now, elapsed=elapsed, limits=limits, history_bytes=memory_bytes
        )
    if colon and scheme == "sqlite" and path and path != ":memory:" and "\0" not in path:
        return SqliteJournal(
            os.path.expanduser(path), retention, now=now, elapsed=elapsed, limits=limits
        )
    if scheme in ("nats", "tls"):
        return _on_jetstream(url, retention, node or NodeOptions(), now, limits)
    raise SettingsError(
        [
            "The journal is memory:, sqlite:PATH (such as sqlite:telecast.db) or "
            f"nats://HOST:4222/NAME, not {url!r}."
        ]
    )


@contextmanager
def nats_installed() -> Iterator[None]:
    """Around each import of what needs nats-py. Only whoever has several nodes has it, and only
    then is it worth its time. Raises SettingsError where it is missing."""
    try:
        yield
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] != "nats":
            raise
        raise SettingsError(
            ["A nats:// journal needs the package nats-py: pip install 'telecast[nats]'."]
        ) from missing


def _on_jetstream(
    url: str,
    retention: Mapping[str, Retention],
    node: NodeOptions,
    now: Callable[[], float],
    limits: KeyLimits | None,
) -> Journal:
    address = parse_address(url)
    with nats_installed():
        from telecast.journal.jetstream.journal import JetStreamJournal
        from telecast.journal.jetstream.stream import JetStreamLog
    log = JetStreamLog(address, node.access, replicas=node.replicas)
    return JetStreamJournal(
        log,
        node.copy,
        retention,
        now=now,
        limits=limits,
        checkpoint_bytes=node.checkpoint_bytes,
        largest_event=node.largest_event,
    )
