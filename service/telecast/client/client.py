"""The whole client: views, changes one by one, and publishing, over as few connections as will do.

What a user may rely on stands in the docstrings here; docs/reference/python-client.md is made
from them (docs/client_reference.py), and a test holds the two against each other.
"""

from __future__ import annotations

import asyncio
import ssl
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal, Self, overload

from telecast.client.connection.http import Access, Key
from telecast.client.connection.reports import Report
from telecast.client.connection.turns import Transports
from telecast.client.faults import Closed
from telecast.client.follow import Buffer, Following, WhenFull, acknowledger
from telecast.client.links import Kind, Links, Seat
from telecast.client.publish import PATIENCE_SECONDS, Publisher, Snapshot
from telecast.client.rows import (
    CandleRow,
    MarketDataRow,
    PositionRow,
    RiskAlertRow,
    SystemRow,
    TraderStatusRow,
)
from telecast.client.store import Store
from telecast.client.stream import Stream
from telecast.client.telemetry import Guarded, NoTelemetry, Telemetry
from telecast.client.view import View
from telecast.client.wanted import Filter, selection_of

LIVENESS_SECONDS = 2.0
BUFFER = 1_000


class Client:
    """One service, as one program uses it.

    ```python
    async with Client("https://telecast.example", key=...) as telecast:
        positions = await telecast.view("positions", traderId="t1")
    ```

    Use it as an async context manager: leaving it closes every connection, ends every view and
    every `follow`. It belongs to the event loop in which it was entered. Every call may be
    cancelled; nothing is left running. It comes back by itself after a cut, a restart or a drain,
    over another transport if need be, and goes on where it was.

    Raises, here and in its methods: `Refused` where the service says no (with its own `code`,
    `message`, `details` and advice), `Unreachable` where nobody answers within `patience`,
    `BadAnswer` where what answers is no Telecast service, `Closed` after its end. All are
    `TelecastError`s.
    """

    def __init__(
        self,
        url: str,
        *,
        key: Key = None,
        transport: Transports = "auto",
        client_id: str | None = None,
        patience: float = PATIENCE_SECONDS,
        heartbeat: int | None = None,
        liveness: float = LIVENESS_SECONDS,
        tls: ssl.SSLContext | None = None,
        proxy: str | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        """Nothing is connected yet.

        - `url`: the service's address, such as `https://telecast.example`. It may have a path.
        - `key`: a key, or a function (async if you like) that returns the one that is good now.
          A function is called for each connection and each request, and once more when a key is
          refused: that is how a key is replaced without a restart.
        - `transport`: `auto` takes a WebSocket, and Server-Sent Events where a WebSocket does not
          get through; `ws` or `sse` takes just that one.
        - `client_id`: your own name for this client; the operator sees it. `follow` uses it, and
          two streams with one name replace each other.
        - `patience`: seconds for which a request is repeated before `Unreachable` is raised.
        - `heartbeat`: whole seconds between the service's heartbeats, 2 to 60; None is 15.
        - `liveness`: seconds within which a view notices that its connection is silent.
        - `tls`: an `ssl.SSLContext`; None trusts what the system trusts.
        - `proxy`: the address of an HTTP proxy. None follows `HTTP_PROXY`, `HTTPS_PROXY` and
          `NO_PROXY`, except for addresses of this machine.
        - `telemetry`: what the client reports its work to, `telecast.client.otel.OpenTelemetry()`
          or an object of yours with the same calls.

        Raises ValueError for an address or a key that can never work.
        """
        telemetry = NoTelemetry() if telemetry is None else Guarded(telemetry)
        self._access = Access.to(url, key, tls=tls, proxy=proxy, beside=telemetry.headers)
        self._telemetry = telemetry
        self._transport = transport
        self._client_id = client_id
        self._patience = patience
        self._heartbeat = heartbeat
        self._liveness = liveness
        self._rest = Publisher(self._access, patience=patience, telemetry=telemetry)
        self._publishing = asyncio.Lock()
        self._links = Links(self._open_stream, self._rest.allow, patience)
        self._buffers: weakref.WeakSet[Buffer] = weakref.WeakSet()
        self._readers: set[asyncio.Task[None]] = set()
        self._closed = False
        self._pause: Callable[[float], Awaitable[Any]] = asyncio.sleep

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End everything and wait until all connections are closed. Twice is as good as once."""
        self._closed = True
        for buffer in list(self._buffers):
            buffer.end(Closed())
        if readers := list(self._readers):
            for reader in readers:
                reader.cancel()
            await asyncio.wait(readers)
        await self._links.close()
        await self._rest.close()

    # --- reading

    @overload
    async def view(
        self, channel: Literal["positions"], *, max_rate: float | None = None, **filters: Filter
    ) -> View[PositionRow]: ...
    @overload
    async def view(
        self, channel: Literal["trader-status"], *, max_rate: float | None = None, **filters: Filter
    ) -> View[TraderStatusRow]: ...
    @overload
    async def view(
        self, channel: Literal["risk-alerts"], *, max_rate: float | None = None, **filters: Filter
    ) -> View[RiskAlertRow]: ...
    @overload
    async def view(
        self, channel: Literal["market-data"], *, max_rate: float | None = None, **filters: Filter
    ) -> View[MarketDataRow]: ...
    @overload
    async def view(
        self, channel: Literal["candles"], *, max_rate: float | None = None, **filters: Filter
    ) -> View[CandleRow]: ...
    @overload
    async def view(
        self, channel: Literal["system"], *, max_rate: float | None = None, **filters: Filter
    ) -> View[SystemRow]: ...
    @overload
    async def view(
        self, channel: str, *, max_rate: float | None = None, **filters: Filter
    ) -> View[Mapping[str, Any]]: ...

    async def view(
        self, channel: str, *, max_rate: float | None = None, **filters: Filter
    ) -> View[Any]:
        """The channel's current rows, kept current: a mapping by the row's key.

        Returns once the table is complete and live. `filters` are the channel's filter fields,
        each with a value or several: `traderId="t1"`, `symbol=["BTCUSDT", "ETHUSDT"]`. `max_rate`
        is the most batches of changes a second (0.2 to 20).

        Views with the same filters and `max_rate` share one connection, whatever their channel;
        others open one more. A view that lags gets newer rows, not more of them: superseded
        changes are left out.

        Raises Refused for a channel or filter that there is not, or that the key may not read, and
        ValueError for a channel that is a log.
        """
        self._check_open()
        chosen = selection_of(filters)
        entry = await self._rest.allow(channel, dict(chosen))
        if entry.get("mode") == "log":
            raise ValueError(f"{channel!r} is a log, which has no rows to view: use `follow`.")
        self._check_open()
        seat = Seat(self._links, channel, (chosen, max_rate))
        return View(await seat.take(), seat)

    def follow(
        self,
        *channels: str,
        since: str | None = None,
        keep: Store | None = None,
        delivery: Literal["all", "conflated"] = "all",
        max_rate: float | None = None,
        buffer: int = BUFFER,
        when_full: WhenFull = "wait",
        acknowledge: bool = False,
        **filters: Filter,
    ) -> Following:
        """Every change of these channels, each once, in the order of its commit.

        - `since`: a position, to get what came after it; `earliest`, the oldest that there is;
          `now`, only what comes from now on; `acked`, after the last acknowledged position of
          this `client_id`. None begins with the rows as they are.
        - `keep`: a `PositionFile`, or a store of yours. The place of each change is saved after
          you came back for the next one, so a change that was being handled when the program
          died comes again. What it has goes before `since`.
        - `delivery`: `all` changes, or `conflated`: superseded ones are left out in a catch-up.
        - `buffer`, `when_full`: at most so many changes wait for you. Then `wait` reads no more
          until you do (the service keeps your place, nothing is lost), `conflate` keeps each
          row's newest change, and `fail` raises `Behind`.
        - `acknowledge`: report handled positions to the service; needs `client_id`.
        - `filters`: as with `view`. `refine` of what it returns changes their values.

        A RESET change says that all rows of its channel are to be forgotten, and comes at first
        too, unless you resume. After a cut it goes on where it was and never yields twice what
        you have seen. It has a connection of its own, so a slow loop holds up nothing else.
        Leaving the loop ends it; `contextlib.aclosing` ends it at once, whatever happens.

        Raises Refused for what is of no use to try again.
        """
        self._check_open()
        if acknowledge and self._client_id is None:
            raise ValueError(
                "To acknowledge, give the Client a client_id: positions are kept by it."
            )
        kept = keep.load() if keep is not None else None
        stream = Stream(
            self._access,
            None,
            channels,
            transport=self._transport,
            since=kept or since,
            delivery=delivery,
            max_rate=max_rate,
            filters=dict(selection_of(filters)),
            heartbeat=self._heartbeat,
            client_id=self._client_id,
            report=self._telemetry.reported,
            pause=self._pause,
        )
        waiting = Buffer(buffer, when_full)
        self._buffers.add(waiting)
        report = None
        if acknowledge and self._client_id is not None:
            report = acknowledger(stream, self._rest, self._client_id, lambda: self._closed)
        return Following(stream, waiting, keep, report, self._readers, self._telemetry)

    async def snapshot(self, channel: str, **filters: Filter) -> Snapshot:
        """The rows as they are, once: `rows` (each with `key`, `seq`, `data`) and `position`, from
        which `follow(since=...)` goes on without a gap."""
        self._check_open()
        return await self._rest.snapshot(channel, dict(selection_of(filters)))

    async def channels(self) -> list[dict[str, Any]]:
        """The catalogue as far as the key may read it: names, fields, filters, schemas."""
        self._check_open()
        return await self._rest.channels()

    # --- writing

    async def publish(
        self,
        channel: str,
        rows: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        idempotency_key: str | None = None,
        replace: str | None = None,
    ) -> dict[str, Any]:
        """Publish one row or many: all of them, or none.

        Returns when they are durable, with the service's receipt: `accepted`, `firstSeq`,
        `lastSeq`, `position`, `subscribers`, and `duplicate` where it had been published before.
        A lost answer or a busy service is tried again for `patience` seconds under the same
        idempotency key, so nothing is published twice. Calls of one client commit in the order in
        which they were made, whatever tasks they come from.

        - `idempotency_key`: yours, so that the repeat may also come from another run.
        - `replace`: `field:value`; rows of that scope that the batch lacks are withdrawn.

        Raises Refused: `VALIDATION_FAILED` lists every bad field in `details`.
        """
        self._check_open()
        async with self._publishing:
            return await self._rest.publish(
                channel, rows, idempotency_key=idempotency_key, replace=replace
            )

    async def withdraw(
        self,
        channel: str,
        key: str,
        *,
        if_seq: int | None = None,
        idempotency_key: str | None = None,
    ) -> dict[str, Any]:
        """Take a row away: who holds it gets its tombstone. Returns the receipt.

        Repeated like `publish`, so that a row published since is never withdrawn by a repeat. With
        `if_seq` the row must still be the one of that seq.

        Raises Refused with `ROW_NOT_FOUND` where there is none, `ROW_MOVED` where it has changed.
        """
        self._check_open()
        async with self._publishing:
            return await self._rest.withdraw(
                channel, key, if_seq=if_seq, idempotency_key=idempotency_key
            )

    async def alive(self, channel: str) -> None:
        """Say that you are there, though you have nothing to publish: else the channel becomes
        stale after its `staleAfterSeconds`, and every view of it shows that."""
        self._check_open()
        await self._rest.alive(channel)

    async def acknowledge_alert(self, alert: str, *, note: str | None = None) -> dict[str, Any]:
        """Acknowledge a risk alert as an operator, which needs the scope `operate`.

        Returns `alert`, the row as it is now, and `changed`. Raises Refused with
        `ALERT_ACKNOWLEDGED` where somebody was first; `details` names them.
        """
        self._check_open()
        return await self._rest.acknowledge(alert, note)

    # --- inside

    def _check_open(self) -> None:
        if self._closed:
            raise Closed

    def _open_stream(
        self, kind: Kind, channels: list[str], report: Callable[[Report], None]
    ) -> Stream:
        chosen, max_rate = kind

        def both(said: Report) -> None:
            self._telemetry.reported(said)
            report(said)

        return Stream(
            self._access,
            None,
            channels,
            transport=self._transport,
            max_rate=max_rate,
            filters=dict(chosen),
            heartbeat=self._heartbeat,
            report=both,
            liveness=self._liveness,
            pause=self._pause,
        )
