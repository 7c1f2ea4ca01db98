"""The connection to the NATS servers: it comes back by itself, and says when it was lost.

nats-py closes its connection for good when the servers refuse its credentials while it runs, else
it goes on with those that it began with; and after a failure of TLS it may wait for ever. So a
connection that is lost for long, or silent, is made anew, and an attempt that is stuck is left.

nats-py's connection, and JetStream's own calls in JSON
(docs.nats.io/reference/reference-protocols/nats_api_reference).
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import nats
import nats.errors
import orjson
from nats.aio.client import Client, RawCredentials
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from telecast.errors import JournalUnavailable
from telecast.journal.jetstream.address import Access, Address

log = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
CALL_SECONDS = 5.0
SILENT_SECONDS = 12.0
"""A log that says nothing for so long, not even that it is there, is away, though a server is
connected: that one may be cut off from the others. An election of a leader takes 4 to 9 s."""
GRACE_SECONDS = 2.0
"""A connection that is lost for less is waited for; then publishes are refused at once."""
RENEW_SECONDS = 10.0
"""A connection that does not come back within this is made anew, with the credentials and the
certificates that the files have by then. Where the servers refuse those, at once."""
LEAVE_SECONDS = 1.0
"""nats-py waits without end for a TLS connection to be closed by a peer that is gone."""
STUCK_SECONDS = 0.1
"""Before the next server is tried, where the attempt with one leads nowhere."""
AGAIN_SECONDS = 1.0
"""Between two attempts to make it anew."""
FULL = frozenset({10023, 10047, 10077})
"""Insufficient resources, insufficient storage, maximum bytes exceeded (server/errors.json)."""
NOT_FOUND = 10059
TROUBLE = (TimeoutError, nats.errors.Error, OSError)
"""What a call raises while nobody knows whether the servers got it."""


class Refused(Exception):
    """JetStream's own error answer. `code` is one of server/errors.json."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error.get("description", ""))
        self.code = int(error.get("err_code", 0))


class Servers:
    """One connection. `changed` is called when it is lost or comes back."""

    def __init__(self, address: Address, access: Access, changed: Callable[[], None]) -> None:
        self._address = address
        self._access = access
        self._changed = changed
        self._client: Client | None = None
        self._lost_at: float | None = None
        """When the connection was lost, on the loop's clock."""
        self._heard_at: float | None = None
        self._moved_at = 0.0
        self._stuck = asyncio.Event()
        """An attempt to connect leads to nothing any more, though nats-py goes on with it."""
        self._refusals = 0
        """Of this attempt to connect: only a part of the servers may know the credentials yet."""
        self._refused = False
        """The servers have refused the credentials since the connection was lost."""
        self._trouble = ""
        """What keeps this node itself from making the connection anew, in brackets."""
        self._given_up = asyncio.Event()
        """nats-py will not bring this connection back."""
        self._renewing: asyncio.Task[None] | None = None
        self._listening: list[tuple[str, Callable[[Msg], Awaitable[None]]]] = []
        self.forbidden = ""
        """What the servers said last that this user may not do."""
        self._closed = False

    async def connect(self) -> None:
        """Raises JournalUnavailable, SettingsError."""
        self._client = await self._connected_anew()

    async def _connected_anew(self) -> Client:
        """A new connection, to any of the servers. Raises JournalUnavailable, SettingsError."""
        loop, self._refusals = asyncio.get_running_loop(), 0
        deadline = loop.time() + CONNECT_SECONDS
        while True:
            self._stuck.clear()
            connecting = asyncio.create_task(self._connect())
            stuck = asyncio.create_task(self._stuck.wait())
            try:
                await asyncio.wait(
                    [connecting, stuck],
                    timeout=max(0.0, deadline - loop.time()),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if connecting.done():
                    return connecting.result()
            except TROUBLE as error:
                raise JournalUnavailable(self._why_not(error)) from error
            finally:
                connecting.cancel()
                stuck.cancel()
            if self._all_refuse() or loop.time() >= deadline:
                raise JournalUnavailable(self._why_not(None))
            await asyncio.sleep(STUCK_SECONDS)

    def _all_refuse(self) -> bool:
        return self._refusals >= len(self._address.servers)

    async def _connect(self) -> Client:
        access = self._access
        options: dict[str, Any] = {}
        if (tls := access.tls()) is not None:
            options["tls"] = tls
        if (creds := access.credentials()) is not None:
            options["user_credentials"] = RawCredentials(creds)
        if access.user is not None:
            options |= {"user": access.user, "password": access.password()}
        return await nats.connect(
            servers=list(self._address.servers),
            name="telecast",
            connect_timeout=2,
            reconnect_time_wait=1,
            max_reconnect_attempts=-1,
            ping_interval=5,
            max_outstanding_pings=2,
            error_cb=self._on_error,
            disconnected_cb=self._on_disconnect,
            reconnected_cb=self._on_reconnect,
            closed_cb=self._on_closed,
            **options,
        )

    def _why_not(self, error: BaseException | None) -> str:
        if self._all_refuse():
            return self._refusal()
        detail = f" ({error})" if error is not None and str(error) else ""
        return (
            f"No server of {self._address} answered within {CONNECT_SECONDS:g} s{detail}: is one "
            "running there (nats-server -js -sd FOLDER), and may this machine reach it?"
        )

    def _refusal(self) -> str:
        return (
            f"The servers of {self._address} refused the credentials: check nats_creds, or "
            "nats_user and nats_password_file."
        )

    async def _on_error(self, error: Exception) -> None:
        said = str(error)
        if _is_refusal(error):
            self._refusals += 1
            self._refused = True
            self._given_up.set()
        if self._all_refuse() or isinstance(error, (ssl.SSLError, TimeoutError)):
            self._stuck.set()
        if "permissions violation" in said.lower():
            # The servers leave such a call without an answer: this is all that says why.
            self.forbidden = said.removeprefix("nats: ")
            log.error("the NATS servers forbid it to this user", extra={"reason": self.forbidden})
        log.debug("the NATS connection reports a fault", extra={"reason": type(error).__name__})

    async def _on_disconnect(self) -> None:
        self._lose()

    def _lose(self) -> None:
        if not self._closed and self._lost_at is None:
            self._refused = False
            self._trouble = ""
            self._given_up.clear()
            self._lost_at = asyncio.get_running_loop().time()
            log.warning("the log is away", extra={"log": str(self._address)})
            if self._renewing is None or self._renewing.done():
                self._renewing = asyncio.create_task(self._renew())
        self._changed()

    async def _on_closed(self) -> None:
        if self._client is not None and _is_refusal(self._client.last_error):
            self._refused = True
        self._given_up.set()

    async def _renew(self) -> None:
        """Wait until the lost connection has come back, or put another in its place."""
        with suppress(TimeoutError):
            async with asyncio.timeout(RENEW_SECONDS):
                await self._given_up.wait()
        if self._lost_at is not None:
            await self._leave(self._client)
        while self._lost_at is not None and not self._closed:
            client: Client | None = None
            try:
                client = await self._connected_anew()
                for subject, take in self._listening:
                    await client.subscribe(subject, cb=take)
                if client.is_connected:
                    self._client, client = client, None
                    await self._on_reconnect()
                    return
            except (JournalUnavailable, *TROUBLE) as error:
                log.debug("no connection to the log yet", extra={"reason": str(error)})
            except Exception as error:
                # A file that can't be read, or that is just being written: who gave up here would
                # never come back.
                self._trouble = f" ({error})"
                log.debug("no connection to the log yet", extra={"reason": repr(error)})
            finally:
                await self._leave(client)
            await asyncio.sleep(AGAIN_SECONDS)

    async def _on_reconnect(self) -> None:
        self._lost_at = None
        log.info("the log is back", extra={"log": str(self._address)})
        self._changed()

    def away(self) -> str | None:
        """Why nobody can be reached just now, or None."""
        now, lost = asyncio.get_running_loop().time(), self._lost_at
        if lost is not None and now - lost >= GRACE_SECONDS:
            if self._refused:
                return f"{self._refusal()} It is tried again{self._trouble}."
            return f"The connection to {self._address} is lost; it is tried again{self._trouble}."
        if self._silent(now):
            return (
                f"The servers of {self._address} have said nothing of the log for "
                f"{SILENT_SECONDS:g} s: they have no leader, or this one is cut off from them."
            )
        return None

    def _silent(self, now: float) -> bool:
        return self._heard_at is not None and now - self._heard_at >= SILENT_SECONDS

    def heard(self) -> None:
        """The log has said something: a message, or that there is none."""
        self._heard_at = asyncio.get_running_loop().time()

    async def move_on(self) -> None:
        """Where the log has been silent for too long, try another server."""
        now = asyncio.get_running_loop().time()
        if self._client is None or not self._silent(now) or now - self._moved_at < SILENT_SECONDS:
            return
        self._moved_at = now
        log.warning("the log is silent: trying another server", extra={"log": str(self._address)})
        # Not by nats-py's own way: it waits without end for a TLS connection to be closed.
        self._lose()
        self._given_up.set()

    @property
    def max_payload(self) -> int:
        """The largest message that the server takes, in bytes."""
        return self._connected().max_payload

    def _connected(self) -> Client:
        if self._client is None:
            raise JournalUnavailable("The journal is closed.")
        return self._client

    async def ask(
        self, subject: str, data: bytes, headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """One request, one answer. Raises Refused, what TROUBLE names, JournalUnavailable."""
        message = await self._connected().request(
            subject, data, timeout=CALL_SECONDS, headers=headers
        )
        answer: dict[str, Any] = orjson.loads(message.data)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer

    async def call(self, subject: str, body: object = None) -> dict[str, Any]:
        """One call of JetStream's API. Raises as `ask`."""
        return await self.ask(f"$JS.API.{subject}", b"" if body is None else orjson.dumps(body))

    async def subscribe(self, take: Callable[[Msg], Awaitable[None]]) -> tuple[str, Subscription]:
        """A new inbox, whose messages are handed to `take`."""
        client = self._connected()
        inbox = client.new_inbox()
        return inbox, await client.subscribe(inbox, cb=take)

    async def listen(self, subject: str, take: Callable[[Msg], Awaitable[None]]) -> Subscription:
        """Have `take` called with what is published there from now on, over whichever connection;
        `*` stands for one word."""
        self._listening.append((subject, take))
        return await self._connected().subscribe(subject, cb=take)

    async def publish(self, subject: str, data: bytes, reply: str = "") -> None:
        """To whoever listens now. Raises what TROUBLE names, JournalUnavailable."""
        await self._connected().publish(subject, data, reply)

    async def answer(self, subject: str) -> None:
        await self._connected().publish(subject)

    async def close(self) -> None:
        self._closed = True
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])
        client, self._client = self._client, None
        await self._leave(client)

    async def _leave(self, client: Client | None) -> None:
        if client is None:
            return
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                await client.close()
        except (OSError, RuntimeError, nats.errors.Error) as fault:
            # nats-py sends what still waits, on a socket that went with its server.
            log.debug("the connection to the log had gone before it was closed: %s", fault)


def _is_refusal(error: BaseException | None) -> bool:
    """Whether the servers took the credentials for wrong, or for too old."""
    said = str(error).lower()
    return "authorization" in said or "authentication" in said
