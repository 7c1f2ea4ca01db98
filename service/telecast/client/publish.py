"""Publish, and read what is there: one request, one answer, repeated until there is one."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson
from yarl import URL

from telecast.client.connection.backoff import Backoff
from telecast.client.connection.http import (
    CONNECT_SECONDS,
    LOST,
    Access,
    Key,
    below,
    open_session,
    words,
)
from telecast.client.faults import BadAnswer, Refused, Unreachable
from telecast.client.telemetry import NoTelemetry, Telemetry

PATIENCE_SECONDS = 60.0
"""How long a request is repeated: longer than a restart, shorter than an operator's lunch."""
REQUEST_SECONDS = 30.0
"""How long one try may take until its answer counts as lost."""
MOST_WAIT_SECONDS = 5.0
NDJSON = "application/x-ndjson"
_BROKEN = (
    aiohttp.ServerDisconnectedError,
    aiohttp.ClientOSError,
    aiohttp.ClientPayloadError,
)
"""How a connection ends that was made."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A channel's current rows, and a position from which a stream sends all that came since."""

    rows: list[dict[str, Any]]
    position: str


class Publisher:
    """Talks to the REST side of one service, over one connection where it can.

    Every call is repeated on a lost connection and on answers worth retrying (429, 503 and
    such), as often as fits into `patience` seconds. It raises Refused with the server's words,
    Unreachable when the time is up and the last try found nobody, BadAnswer where the answer is
    not Telecast's. Cancelling leaves it usable. Use it as a context manager, or `close()` it.
    """

    def __init__(
        self,
        url: str | Access,
        key: Key = None,
        *,
        patience: float = PATIENCE_SECONDS,
        insist: bool = True,
        report: Callable[[Refused | Unreachable, float], None] | None = None,
        backoff: Backoff | None = None,
        pause: Callable[[float], Awaitable[Any]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        telemetry: Telemetry | None = None,
    ) -> None:
        """`insist` False: while nobody has been there yet, a refused connection is not tried again.

        `report` is given each failed try and the seconds until the next.
        Raises ValueError for an address or a key that can never work.
        """
        self._access = url if isinstance(url, Access) else Access.to(url, key)
        self._base = self._access.base
        self._patience = patience
        self._insist = insist
        self._report = report or (lambda fault, delay: None)
        self._backoff = backoff or Backoff(most=MOST_WAIT_SECONDS)
        self._pause = pause
        self._clock = clock
        self._telemetry = telemetry or NoTelemetry()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Publisher:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def publish(
        self,
        channel: str,
        payloads: bytes | Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        idempotency_key: str | None = None,
        replace: str | None = None,
    ) -> dict[str, Any]:
        """Publish one payload, many, or NDJSON bytes as they are: all of them, or none.

        Returns the server's receipt: `accepted firstSeq lastSeq position subscribers` and
        `duplicate`. Without an `idempotency_key` the call makes its own, so that a repeat after
        a lost answer is never a second event; give one to make it hold over calls too.
        `replace` is `field:value`: rows of that scope that the batch lacks are withdrawn.
        """
        if isinstance(payloads, bytes):
            body, count = payloads, payloads.rstrip().count(b"\n") + 1
        else:
            items = [payloads] if isinstance(payloads, Mapping) else payloads
            body, count = b"\n".join(orjson.dumps(item) for item in items), len(items)
        url = below(self._base, f"api/v1/channels/{quote(channel, safe='')}/events")
        headers = {"Content-Type": NDJSON, "Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        params = [] if replace is None else [("replace", replace)]
        with self._telemetry.publishing("publish", channel, count) as done:
            receipt = await self._ask("POST", url, params=params, body=body, headers=headers)
            found: dict[str, Any] = _expect(receipt, dict, "receipt")
            done(found)
        return found

    async def withdraw(
        self,
        channel: str,
        key: str,
        *,
        if_seq: int | None = None,
        idempotency_key: str | None = None,
    ) -> dict[str, Any]:
        """Take a row away: all who hold it get its tombstone. Returns the server's receipt.

        Without an `idempotency_key` the call makes its own, so that a repeat after a lost answer
        never withdraws a row that was published since. With `if_seq` the row must still be the
        one of that seq. Raises Refused: ROW_NOT_FOUND, ROW_MOVED.
        """
        url = below(self._base, f"api/v1/channels/{quote(channel, safe='')}/rows")
        params = [("key", key), *([] if if_seq is None else [("ifSeq", str(if_seq))])]
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        with self._telemetry.publishing("withdraw", channel, 1) as done:
            receipt = await self._ask("DELETE", url, params=params, headers=headers)
            found: dict[str, Any] = _expect(receipt, dict, "receipt")
            done(found)
        return found

    async def allow(
        self, channel: str, filters: Mapping[str, Sequence[str]] | None = None
    ) -> dict[str, Any]:
        """The channel's entry in the catalogue, if the key may read this selection.

        Raises Refused with the server's words.
        """
        url = below(self._base, f"api/v1/channels/{quote(channel, safe='')}")
        entry: dict[str, Any] = _expect(await self._ask("GET", url), dict, "channel")
        if filters:
            asked = [(field, value) for field, values in filters.items() for value in values]
            await self._ask("GET", below(url, "snapshot"), params=[*asked, ("limit", "1")])
        return entry

    async def acknowledge(self, alert: str, note: str | None = None) -> dict[str, Any]:
        """Acknowledge an alert as an operator.

        Returns `alert` as it is now, `changed` and `position`. Raises Refused with
        ALERT_ACKNOWLEDGED where somebody else was first.
        """
        url = below(self._base, f"api/v1/risk-alerts/{quote(alert, safe='')}/acknowledge")
        body = orjson.dumps({} if note is None else {"note": note})
        headers = {"Content-Type": "application/json", "Idempotency-Key": uuid.uuid4().hex}
        found: dict[str, Any] = _expect(
            await self._ask("POST", url, body=body, headers=headers), dict, "alert"
        )
        return found

    async def call(
        self,
        method: str,
        path: str,
        params: Sequence[tuple[str, str]] = (),
        body: Any = None,
    ) -> Any:
        """Any call of the REST API: the `data` of its answer. `path` is below `api/v1/`, quoted.

        It is repeated as every call here is: use it for what may be done twice.
        """
        headers = None if body is None else {"Content-Type": "application/json"}
        return await self._ask(
            method,
            below(self._base, f"api/v1/{path}"),
            params=params,
            body=None if body is None else orjson.dumps(body),
            headers=headers,
        )

    async def alive(self, channel: str) -> None:
        """Say that this publisher is there, though it has nothing to publish."""
        path = f"api/v1/channels/{quote(channel, safe='')}/alive"
        await self._ask("POST", below(self._base, path))

    async def report(self, client_id: str, position: str) -> None:
        """Acknowledge that this client has handled everything up to a position."""
        body = orjson.dumps({"clientId": client_id, "position": position})
        headers = {"Content-Type": "application/json"}
        await self._ask("POST", below(self._base, "api/v1/clients/ack"), body=body, headers=headers)

    async def channels(self) -> list[dict[str, Any]]:
        """The catalogue, as far as the key may read it."""
        listed = await self._ask("GET", below(self._base, "api/v1/channels"))
        found: list[dict[str, Any]] = _expect(listed, list, "channels")
        return found

    async def snapshot(
        self, channel: str, filters: Mapping[str, Sequence[str]] | None = None
    ) -> Snapshot:
        """All current rows, page by page.

        Rows may change while pages are read; `position` is that of the first page, so that a
        stream from there sends every such change.
        """
        url = below(self._base, f"api/v1/channels/{quote(channel, safe='')}/snapshot")
        asked = [(field, value) for field, values in (filters or {}).items() for value in values]
        rows: dict[str, dict[str, Any]] = {}
        position: str | None = None
        cursor: str | None = None
        while True:
            params = asked if cursor is None else [*asked, ("cursor", cursor)]
            page = _expect(await self._ask("GET", url, params=params), dict, "page")
            for row in _expect(page.get("rows"), list, "rows"):
                rows.pop(row["key"], None)  # it changed after its page: the later page has it anew
                rows[row["key"]] = row
            position = position or _expect(page.get("position"), str, "position")
            if not page.get("more"):
                return Snapshot(list(rows.values()), position)
            before, cursor = cursor, _expect(page.get("cursor"), str, "cursor")
            if cursor == before:
                raise BadAnswer(f"The pages of {channel!r} do not come to an end.")

    async def _ask(
        self,
        method: str,
        url: URL,
        *,
        params: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """The answer's `data`, after as many tries as fit into the time."""
        deadline = self._clock() + self._patience
        asked_again = False
        while True:
            fault: Refused | Unreachable
            try:
                data = await self._try(method, url, params, body, headers)
            except Refused as refused:
                self._insist = True
                if refused.status == 401 and self._access.renews and not asked_again:
                    asked_again = True  # the key may have been replaced since it was given
                    continue
                if not refused.retryable:
                    raise
                fault, wait = refused, refused.retry_after
            except LOST as lost:
                why = f"Nobody answers at {self._base}: {words(lost)}."
                fault, wait = Unreachable(why), 0.0
                if isinstance(lost, aiohttp.ClientConnectorError):
                    if not self._insist:
                        raise fault from None
                elif isinstance(lost, _BROKEN):
                    self._insist = True  # somebody was there, and died in the middle of it
            else:
                self._insist = True
                self._backoff.reset()
                return data
            delay = self._backoff.next(wait)
            if self._clock() + delay > deadline:
                raise fault from None
            self._telemetry.retrying(fault, delay)
            self._report(fault, delay)
            await self._pause(delay)

    async def _try(
        self,
        method: str,
        url: URL,
        params: Sequence[tuple[str, str]],
        body: bytes | None,
        headers: Mapping[str, str] | None,
    ) -> Any:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS, sock_connect=CONNECT_SECONDS)
            self._session = open_session(self._access, timeout)
        headers = {**await self._access.headers(), **(headers or {})}
        async with self._session.request(
            method, url, params=params, data=body, headers=headers
        ) as response:
            raw = await response.read()
        try:
            answer = orjson.loads(raw)
            if answer["success"] is not True:
                raise KeyError
            return answer["data"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            raise BadAnswer(f"{self._base} answers, but not as a Telecast service does.") from None


def _expect(value: Any, kind: type, what: str) -> Any:
    if not isinstance(value, kind):
        raise BadAnswer(f"The answer lacks its {what}.")
    return value
