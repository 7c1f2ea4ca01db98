"""The client whose calls block: each is the asynchronous client's, on a loop in a thread."""

from __future__ import annotations

import ssl
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Self, overload

from telecast.client import client as asynchronous
from telecast.client.blocking.loop import LoopThread
from telecast.client.blocking.view import View
from telecast.client.client import BUFFER, LIVENESS_SECONDS
from telecast.client.connection.http import Key
from telecast.client.connection.turns import Transports
from telecast.client.follow import Change, Following, WhenFull
from telecast.client.publish import PATIENCE_SECONDS, Snapshot
from telecast.client.rows import (
    CandleRow,
    MarketDataRow,
    PositionRow,
    RiskAlertRow,
    SystemRow,
    TraderStatusRow,
)
from telecast.client.store import Store
from telecast.client.telemetry import Telemetry
from telecast.client.wanted import Filter


class Client:
    """One service, as a script or a notebook uses it.

    ```python
    with Client("https://telecast.example", key=...) as telecast:
        positions = telecast.view("positions", traderId="t1")
    ```

    Options, calls, guarantees and exceptions are those of `telecast.client.Client`; the calls wait
    for their answer. It works in a thread of its own, so it also works in a notebook, where an
    event loop runs already. A key function and a store are called in that thread.

    Calls may come from several threads. Ctrl-C, or a notebook's stop button, cancels the call that
    waits and leaves the client usable. Close it, or leave its `with` block; a program that ends
    closes it too.
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
        """Nothing is connected yet. The options are those of `telecast.client.Client`."""
        client = asynchronous.Client(
            url,
            key=key,
            transport=transport,
            client_id=client_id,
            patience=patience,
            heartbeat=heartbeat,
            liveness=liveness,
            tls=tls,
            proxy=proxy,
            telemetry=telemetry,
        )
        self._client = client
        self._loop = loop = LoopThread()
        # Also at the end of a program: a daemon thread would be stopped amid whatever it does.
        self._end = weakref.finalize(self, loop.stop, client.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End everything, and wait until all connections are closed. Twice is as good as once."""
        self._end()

    # --- reading

    @overload
    def view(
        self, channel: Literal["positions"], *, max_rate: float | None = None, **filters: Filter
    ) -> View[PositionRow]: ...
    @overload
    def view(
        self, channel: Literal["trader-status"], *, max_rate: float | None = None, **filters: Filter
    ) -> View[TraderStatusRow]: ...
    @overload
    def view(
        self, channel: Literal["risk-alerts"], *, max_rate: float | None = None, **filters: Filter
    ) -> View[RiskAlertRow]: ...
    @overload
    def view(
        self, channel: Literal["market-data"], *, max_rate: float | None = None, **filters: Filter
    ) -> View[MarketDataRow]: ...
    @overload
    def view(
        self, channel: Literal["candles"], *, max_rate: float | None = None, **filters: Filter
    ) -> View[CandleRow]: ...
    @overload
    def view(
        self, channel: Literal["system"], *, max_rate: float | None = None, **filters: Filter
    ) -> View[SystemRow]: ...
    @overload
    def view(
        self, channel: str, *, max_rate: float | None = None, **filters: Filter
    ) -> View[Mapping[str, Any]]: ...

    def view(self, channel: str, *, max_rate: float | None = None, **filters: Filter) -> View[Any]:
        """The channel's current rows, kept current by the client's thread: a mapping by the row's
        key. Returns once the table is complete and live."""
        view = self._loop.call(self._client.view(channel, max_rate=max_rate, **filters))
        return View(self._loop, view, self)

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
    ) -> Iterator[Change]:
        """Every change of these channels, each once, in the order of its commit.

        The loop waits for the next one. Leaving it ends the connection; the end of the client
        raises Closed in it.
        """
        return self._each(
            self._loop.do(
                lambda: self._client.follow(
                    *channels,
                    since=since,
                    keep=keep,
                    delivery=delivery,
                    max_rate=max_rate,
                    buffer=buffer,
                    when_full=when_full,
                    acknowledge=acknowledge,
                    **filters,
                )
            )
        )

    def snapshot(self, channel: str, **filters: Filter) -> Snapshot:
        """The rows as they are, once, and the position from which `follow(since=...)` goes on."""
        return self._loop.call(self._client.snapshot(channel, **filters))

    def channels(self) -> list[dict[str, Any]]:
        """The catalogue as far as the key may read it."""
        return self._loop.call(self._client.channels())

    # --- writing

    def publish(
        self,
        channel: str,
        rows: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        idempotency_key: str | None = None,
        replace: str | None = None,
    ) -> dict[str, Any]:
        """Publish one row or many: all of them, or none. Returns the receipt once they are
        durable; a lost answer is tried again, and nothing is published twice."""
        return self._loop.call(
            self._client.publish(channel, rows, idempotency_key=idempotency_key, replace=replace)
        )

    def withdraw(
        self,
        channel: str,
        key: str,
        *,
        if_seq: int | None = None,
        idempotency_key: str | None = None,
    ) -> dict[str, Any]:
        """Take a row away: who holds it gets its tombstone. Returns the receipt."""
        return self._loop.call(
            self._client.withdraw(channel, key, if_seq=if_seq, idempotency_key=idempotency_key)
        )

    def alive(self, channel: str) -> None:
        """Say that you are there, though you have nothing to publish."""
        self._loop.call(self._client.alive(channel))

    def acknowledge_alert(self, alert: str, *, note: str | None = None) -> dict[str, Any]:
        """Acknowledge a risk alert as an operator, which needs the scope `operate`."""
        return self._loop.call(self._client.acknowledge_alert(alert, note=note))

    # --- inside

    def _each(self, changes: Following) -> Iterator[Change]:
        try:
            while (change := self._loop.call(_next(changes))) is not None:
                yield change
        finally:
            self._loop.end(changes.aclose())


async def _next(changes: Following) -> Change | None:
    return await anext(changes, None)
