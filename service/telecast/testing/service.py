"""The whole service beside a test, in a thread with a loop of its own, behind a line that breaks.

Every call returns when what it says has happened, so a test needs no sleeps of its own. What a
client under test connects to is the line: it can be cut, frozen, or let no WebSocket through.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

from telecast.app import create_app, parts_of
from telecast.channels.catalogue import CHANNELS, Catalogue
from telecast.client import Client
from telecast.config import Settings
from telecast.errors import Code, OwnFault
from telecast.journal.memory import MemoryJournal
from telecast.keys import KeyStore, create_key, revoke_key
from telecast.model import Retention
from telecast.recording import read_recording
from telecast.server import Server
from telecast.testing.relay import Relay, relay
from telecast.web.parts import Parts

PATIENCE = 30.0
"""Seconds after which a call that does not end fails the test."""
T = TypeVar("T")


class Clock:
    """The service's time of day: real until it is moved, and then as far ahead as it was moved."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def now(self) -> float:
        """Seconds since 1970."""
        return time.time() + self._ahead

    def elapsed(self) -> float:
        """Seconds of a clock that never goes back."""
        return time.monotonic() + self._ahead

    def advance(self, seconds: float) -> None:
        """Let so much time have passed: keys and tickets expire, retention ends."""
        self._ahead += seconds


class ServiceInTests:
    """Use it as a context manager, or through the fixture `telecast_service`.

    `url` is where clients connect, `key` may read, publish and operate. Everything is gone at the
    end. It may be used from synchronous and asynchronous tests alike.
    """

    def __init__(self, *, catalogue: Catalogue = CHANNELS, **settings: Any) -> None:
        """`settings` are those of the service, such as `max_connections_per_key=2`."""
        self.clock = Clock()
        self._catalogue = catalogue
        self._settings = settings
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="telecast in tests")
        self._stack = AsyncExitStack()
        self._folder = tempfile.TemporaryDirectory(prefix="telecast-")
        self._keys_file = Path(self._folder.name) / "keys.toml"
        self.key = create_key(self._keys_file, "test", ["read", "publish", "operate"])

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._do(self._stop())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._folder.cleanup()

    @property
    def url(self) -> str:
        """The address that clients are given."""
        return self._line.url

    # --- what is there

    def publish(
        self,
        channel: str,
        *rows: Mapping[str, Any],
    ) -> str:
        """Publish rows of a channel, all or none; the position of the last.

        Raises Refused where the service does not take them.
        """
        receipt = self._do(self._client.publish(channel, rows))
        return str(receipt["position"])

    def withdraw(self, channel: str, key: str) -> None:
        """Take a row away. Raises Refused where there is none."""
        self._do(self._client.withdraw(channel, key))

    def rows(self, channel: str) -> dict[str, dict[str, Any]]:
        """The rows as they are now, by key: what a client should hold."""
        snapshot = self._do(self._client.snapshot(channel))
        return {row["key"]: row["data"] for row in snapshot.rows}

    def play(self, file: str | os.PathLike[str]) -> int:
        """Publish a recording (`telecast record`, or ticks as NDJSON) as fast as it goes.

        Returns how many events it had.
        """
        timed = read_recording(Path(file), self._catalogue)
        self._do(self._play(timed))
        return len(timed)

    # --- keys

    def new_key(
        self,
        name: str,
        scopes: Sequence[str] = ("read",),
        *,
        channels: Sequence[str] = ("*",),
        forced: Mapping[str, Sequence[str]] | None = None,
    ) -> str:
        """A key more; in force when this returns."""
        made = create_key(self._keys_file, name, scopes, channels=channels, forced=forced)
        self._do(self._read_keys())
        return made

    def revoke(self, key: str) -> None:
        """End a key and its connections: they get a notice that is not worth retrying."""
        revoke_key(self._keys_file, key.split("_")[1])
        self._do(self._read_keys())

    # --- what goes wrong

    def cut(self) -> None:
        """Break all connections, without a word."""
        self._do(self._call(self._line.cut))

    def stall(self) -> None:
        """From now on nothing arrives, in either direction, and no error shows."""
        self._do(self._call(self._line.freeze))

    def resume(self) -> None:
        """End a stall: what has piled up arrives."""
        self._do(self._call(self._line.thaw))

    @contextmanager
    def away(self) -> Iterator[None]:
        """While this lasts, nobody is connected and nobody gets through."""
        self._line.refuses = True
        self.cut()
        try:
            yield
        finally:
            self._line.refuses = False

    def block_websockets(self, status: int = 403) -> None:
        """From now on answer each upgrade with this status, as a proxy may."""
        self._line.no_websocket = status

    def drain(self) -> None:
        """End every stream with a notice, as a service does that goes down; it is there again at
        once."""
        self._do(self._drain())

    def restart(self) -> None:
        """Start anew without a history: every position that clients hold is of another epoch."""
        self._do(self._restart())

    def forget(self, channel: str) -> None:
        """Drop all events of a channel but each row's newest, as retention would.

        Who comes back from before them is sent a `gap` (delivery=all), or a snapshot with
        POSITION_EXPIRED. Clients that are connected miss nothing.
        """
        self._do(self._forget(channel))

    @property
    def connections(self) -> int:
        """Streams that are open now."""
        return self._do(self._count())

    def until(self, done: Callable[[], object]) -> None:
        """Wait until it is so, such as `service.connections == 1`. Fails after half a minute."""
        deadline = time.monotonic() + PATIENCE
        while not done():
            if time.monotonic() > deadline:
                raise TimeoutError("It never came to be so.")
            time.sleep(0.005)

    # --- inside: all of it runs in the loop's thread

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    async def _call(self, act: Callable[[], None]) -> None:
        act()

    async def _start(self) -> None:
        await self._serve()
        self._line: Relay = await self._stack.enter_async_context(relay(self._server.url))
        await self._connect()

    async def _serve(self) -> None:
        retention = self._catalogue.retention
        self._journal = MemoryJournal(retention, now=self.clock.now, elapsed=self.clock.elapsed)
        keys = KeyStore(self._keys_file, now=self.clock.now)
        keys.load()
        own: dict[str, Any] = {"port": 0, "drain_seconds": 0.0, "tape_events": 1}
        chosen = Settings(**{**own, "keys": self._keys_file, **self._settings})
        self._app = create_app(
            chosen,
            keys=keys,
            catalogue=self._catalogue,
            journal=self._journal,
            now=self.clock.now,
        )
        self._server = Server(self._app, chosen)
        await self._server.__aenter__()

    async def _connect(self) -> None:
        self._client = Client(self._server.url, key=self.key, patience=PATIENCE)

    @property
    def _parts(self) -> Parts:
        return parts_of(self._app)

    async def _stop(self) -> None:
        await self._client.close()
        await self._server.__aexit__(None, None, None)
        await self._stack.aclose()

    async def _restart(self) -> None:
        await self._client.close()
        await self._server.__aexit__(None, None, None)
        await self._serve()
        self._line.target = self._server.url
        await self._connect()

    async def _drain(self) -> None:
        why = "The service is going down; resume elsewhere or later."
        for client in list(self._parts.clients):
            client.evict(OwnFault(Code.SHUTTING_DOWN, why, retry_after=0.1))

    async def _forget(self, channel: str) -> None:
        kept = self._catalogue.retention
        self._journal.retain({channel: Retention(0, kept[channel].seconds)})
        while await self._journal.trim():
            pass
        self._journal.retain(kept)

    async def _read_keys(self) -> None:
        parts = self._parts
        parts.keys.reload_if_changed()
        parts.rights.look(parts.keys.principals())
        await parts.clients.recheck()

    async def _count(self) -> int:
        return len(self._parts.clients)

    async def _play(self, timed: Sequence[Any]) -> None:
        for each in timed:
            if each.withdraws is not None:
                await self._client.withdraw(each.channel, each.withdraws)
            else:
                row = each.published_at(_rfc3339(self.clock.now()))
                await self._client.publish(each.channel, row)


def _rfc3339(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
