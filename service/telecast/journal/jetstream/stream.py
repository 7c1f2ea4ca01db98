"""The log as a JetStream stream, by nats-py's connection and JetStream's own JSON calls.

Theory of operation. A stream keeps its messages in one order and numbers them from 1 without a
hole. `follow` reads them by an ephemeral consumer that needs no acknowledgement. Whatever may have
dropped a message on the way (a reconnect, a full buffer, a server that died) makes the consumer's
own numbers jump, or lets its heartbeats stop or name another number than the last one seen: then
the consumer is thrown away and a new one begins at the last message that was handed on, plus one.
So a message is never skipped on the way; a stream that itself has a hole is damaged, and that is
fatal. What would break it: going on after a jump, or beginning a consumer at `last` or behind the
stream's end. nats-py's ordered consumer was weighed: with a full buffer it skips without a word.

The servers' calls: docs.nats.io/reference/reference-protocols/nats_api_reference.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import nats
import nats.errors
import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg

from telecast.errors import JournalCorrupt, JournalFull, JournalUnavailable
from telecast.journal.jetstream.address import Access, Address
from telecast.journal.jetstream.log import Extent, Log, Logged

log = logging.getLogger(__name__)

FORMAT = "1"
CONNECT_SECONDS = 10.0
CALL_SECONDS = 5.0
HEARTBEAT_SECONDS = 1.0
SILENCE_SECONDS = 2.5
"""Without a message or a heartbeat for so long, the consumer is taken for lost."""
RETRY_SECONDS = 0.25
GRACE_SECONDS = 2.0
"""A connection that is lost for less is waited for; then publishes are refused at once."""
AT_ONCE = 256
"""Messages that `follow` hands on together at the most."""
BESIDE_PAYLOAD = 4096
"""What a server counts towards its largest message besides ours: subject and headers."""
FULL = frozenset({10023, 10047, 10077})
"""Insufficient resources, insufficient storage, maximum bytes exceeded (server/errors.json)."""
NOT_FOUND = 10059
NO_JETSTREAM = frozenset({10035, 10039, 10076})
TOO_FEW_SERVERS = frozenset({10005, 10074})


class Refused(Exception):
    """JetStream's own error answer."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error.get("description", ""))
        self.code = int(error.get("err_code", 0))


@dataclass(slots=True)
class _Consumer:
    """One consumer's deliveries, until it is in doubt."""

    arrived: deque[Msg] = field(default_factory=deque)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    number: int = 0
    """The consumer's own number of its last delivery."""
    doubt: bool = False

    def sure(self) -> bool:
        return not self.doubt

    async def take(self, message: Msg) -> None:
        self.arrived.append(message)
        self.wake.set()


class JetStreamLog(Log):
    """A stream `NAME` with one subject, made on first use."""

    def __init__(self, address: Address, access: Access, *, replicas: int = 1) -> None:
        self.epoch = ""
        self.most_bytes = 0
        self._address = address
        self._access = access
        self._replicas = replicas
        self._client: Client | None = None
        self._subject = ""
        self._lost_at: float | None = None
        """When the connection was lost, on the loop's clock."""
        self._denied = asyncio.Event()
        self._consumer: _Consumer | None = None
        self._closed = False

    # --- connection

    async def open(self) -> None:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                self._client = await self._connected()
                info = await self._stream()
        except (TimeoutError, nats.errors.Error, OSError) as error:
            await self.close()
            raise JournalUnavailable(self._why_not(error)) from error
        except BaseException:
            await self.close()
            raise
        self._begin(info)

    async def _connected(self) -> Client:
        """The connection. nats-py tries for ever; credentials that are refused end that."""
        connecting = asyncio.create_task(self._connect())
        denied = asyncio.create_task(self._denied.wait())
        try:
            await asyncio.wait([connecting, denied], return_when=asyncio.FIRST_COMPLETED)
            if not connecting.done():
                raise nats.errors.AuthorizationError
            return connecting.result()
        finally:
            connecting.cancel()
            denied.cancel()

    async def _connect(self) -> Client:
        access = self._access
        options: dict[str, Any] = {"tls": access.tls()} if access.tls() else {}
        if access.creds is not None:
            options["user_credentials"] = str(access.creds)
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
            allow_reconnect=True,
            **options,
        )

    def _why_not(self, error: BaseException) -> str:
        words = str(error).lower()
        if "authorization" in words or "credential" in words or "authentication" in words:
            return (
                f"The servers of {self._address} refused the credentials: check "
                "nats_creds, or nats_user and nats_password_file."
            )
        if isinstance(error, nats.errors.NoRespondersError):
            return (
                f"The servers of {self._address} have JetStream switched off: start them with "
                "`-js` and a store directory."
            )
        detail = f" ({error})" if str(error) and not isinstance(error, TimeoutError) else ""
        return f"No server of {self._address} answered within {CONNECT_SECONDS:g} s{detail}."

    async def _on_error(self, error: Exception) -> None:
        if "authorization" in str(error).lower():
            self._denied.set()
        log.debug("the NATS connection reports a fault", extra={"reason": type(error).__name__})

    async def _on_disconnect(self) -> None:
        if not self._closed and self._lost_at is None:
            self._lost_at = asyncio.get_running_loop().time()
            log.warning("the log is away", extra={"log": str(self._address)})
        self._doubt()

    async def _on_reconnect(self) -> None:
        self._lost_at = None
        log.info("the log is back", extra={"log": str(self._address)})
        self._doubt()

    def _doubt(self) -> None:
        if self._consumer is not None:
            self._consumer.doubt = True
            self._consumer.wake.set()

    # --- calls

    async def _call(self, subject: str, body: object = None) -> dict[str, Any]:
        """One call of JetStream's API. Raises Refused, nats.errors.Error, TimeoutError."""
        assert self._client is not None
        payload = b"" if body is None else orjson.dumps(body)
        message = await self._client.request(f"$JS.API.{subject}", payload, timeout=CALL_SECONDS)
        answer: dict[str, Any] = orjson.loads(message.data)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer

    async def _stream(self) -> dict[str, Any]:
        """The stream's description; it is made if it is not there."""
        name = self._address.name
        try:
            return await self._call(f"STREAM.INFO.{name}")
        except Refused as refused:
            if refused.code in NO_JETSTREAM:
                raise JournalUnavailable(
                    f"JetStream is not enabled for this account at {self._address}."
                ) from refused
            if refused.code != NOT_FOUND:
                raise self._unusable(refused) from refused
        life = secrets.token_hex(4)
        wanted = {
            "name": name,
            "subjects": [f"telecast.{name}.{life}"],
            "retention": "limits",
            "storage": "file",
            "discard": "new",
            "num_replicas": self._replicas,
            "max_msgs": -1,
            "max_bytes": -1,
            "max_age": 0,
            "max_consumers": -1,
            "deny_delete": True,
            "allow_direct": True,
            "compression": "s2",
            "metadata": {"telecast.format": FORMAT, "telecast.epoch": life},
        }
        try:
            return await self._call(f"STREAM.CREATE.{name}", wanted)
        except Refused as refused:
            try:  # another node may have been faster
                return await self._call(f"STREAM.INFO.{name}")
            except Refused:
                raise self._unusable(refused) from refused

    def _unusable(self, refused: Refused) -> JournalUnavailable:
        if refused.code in TOO_FEW_SERVERS:
            return JournalUnavailable(
                f"The servers of {self._address} can't give {self._replicas} replicas "
                f"({refused}): start more servers, or set `replicas` lower."
            )
        return JournalUnavailable(f"The stream {self._address.name} can't be used: {refused}.")

    def _begin(self, info: dict[str, Any]) -> None:
        config, name = info["config"], self._address.name
        metadata = config.get("metadata") or {}
        if "telecast.format" not in metadata:
            raise JournalUnavailable(
                f"The stream {name} at {self._address} belongs to something else: name another."
            )
        if metadata["telecast.format"] != FORMAT:
            raise JournalUnavailable(
                f"The stream {name} has format {metadata['telecast.format']}, and this version of "
                f"Telecast reads {FORMAT}: upgrade Telecast."
            )
        life = metadata["telecast.epoch"]
        self._subject = f"telecast.{name}.{life}"
        # `created` changes when a stream is restored or made anew, and only then.
        named = f"{name} {life} {info['created']}"
        self.epoch = hashlib.sha256(named.encode()).hexdigest()[:10]
        assert self._client is not None
        self.most_bytes = self._client.max_payload - BESIDE_PAYLOAD
        replicas = config.get("num_replicas", 1)
        if replicas == 1:
            log.warning(
                "the log has one replica: whatever its server loses is lost",
                extra={"stream": name, "advice": "three servers and `replicas = 3`"},
            )
        log.warning(
            "make sure that the NATS servers sync before they acknowledge",
            extra={"setting": "jetstream { sync_interval: always }", "stream": name},
        )

    async def extent(self) -> Extent:
        try:
            state = (await self._call(f"STREAM.INFO.{self._address.name}"))["state"]
        except Refused as refused:
            raise self._unusable(refused) from refused
        except (TimeoutError, nats.errors.Error) as error:
            raise JournalUnavailable(f"{self._address} did not answer ({error!r}).") from error
        first, last = state["first_seq"], state["last_seq"]
        return Extent(first if state["messages"] else last + 1, last)

    async def timestamp_of(self, sequence: int) -> int | None:
        try:
            found = await self._call(f"STREAM.MSG.GET.{self._address.name}", {"seq": sequence})
        except Refused:
            return None
        except (TimeoutError, nats.errors.Error) as error:
            raise JournalUnavailable(f"{self._address} did not answer ({error!r}).") from error
        return _ms(found["message"]["time"])

    async def append(self, data: bytes) -> None:
        client = self._client
        if client is None or self._closed:
            raise JournalUnavailable("The journal is closed.")
        if len(data) > self.most_bytes:
            raise JournalUnavailable(
                f"A message of {len(data):,} bytes does not fit: let the NATS servers take more "
                "(`max_payload`, 8 MB is a good value)."
            )
        try:
            answer = orjson.loads(
                (await client.request(self._subject, data, timeout=CALL_SECONDS)).data
            )
        except (TimeoutError, nats.errors.Error, OSError) as error:
            raise JournalUnavailable(f"{self._address} did not answer ({error!r}).") from error
        if "error" in answer:
            refused = Refused(answer["error"])
            if refused.code in FULL:
                raise JournalFull(
                    f"The log {self._address} takes no more ({refused}): give its stream or its "
                    "servers more space."
                )
            raise JournalUnavailable(f"{self._address} refused a message: {refused}.")

    def away(self) -> str | None:
        lost = self._lost_at
        if lost is None or asyncio.get_running_loop().time() - lost < GRACE_SECONDS:
            return None
        return f"The connection to {self._address} is lost; it is tried again."

    # --- following

    async def follow(self, after: int) -> AsyncIterator[tuple[Logged, ...]]:
        while not self._closed:
            consumer = self._consumer = _Consumer()
            try:
                subscription = await self._deliver(consumer, after)
            except (Refused, nats.errors.Error, TimeoutError, OSError) as error:
                log.debug("no consumer yet", extra={"reason": repr(error)})
                await asyncio.sleep(RETRY_SECONDS)
                continue
            try:
                async for logged in self._deliveries(consumer):
                    for each in logged:
                        after += 1
                        if each.sequence != after:
                            raise JournalCorrupt(
                                f"The log {self._address} has lost message {after}: it goes on "
                                f"with {each.sequence}."
                            )
                    yield logged
            finally:
                await self._leave(subscription)

    async def _leave(self, subscription: Any) -> None:
        try:
            await subscription.unsubscribe()
        except nats.errors.Error as error:
            log.debug("a consumer is left to its servers", extra={"reason": repr(error)})

    async def _deliver(self, consumer: _Consumer, after: int) -> Any:
        client, name = self._client, self._address.name
        assert client is not None
        inbox = client.new_inbox()
        subscription = await client.subscribe(inbox, cb=consumer.take)
        config = {
            "deliver_subject": inbox,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": after + 1,
            "ack_policy": "none",
            "replay_policy": "instant",
            "flow_control": True,
            "idle_heartbeat": int(HEARTBEAT_SECONDS * 1e9),
            "inactive_threshold": int(30e9),
            "mem_storage": True,
            "num_replicas": 1,
        }
        try:
            await self._call(f"CONSUMER.CREATE.{name}", {"stream_name": name, "config": config})
        except BaseException:
            await self._leave(subscription)
            raise
        return subscription

    async def _deliveries(self, consumer: _Consumer) -> AsyncIterator[tuple[Logged, ...]]:
        """What a consumer delivers, gathered, until it is in doubt."""
        while not self._closed and consumer.sure():
            if not consumer.arrived:
                consumer.wake.clear()
                try:
                    async with asyncio.timeout(SILENCE_SECONDS):
                        await consumer.wake.wait()
                except TimeoutError:
                    return
                continue
            found: list[Logged] = []
            while consumer.arrived and len(found) < AT_ONCE and consumer.sure():
                message = consumer.arrived.popleft()
                if message.headers and message.headers.get("Status") == "100":
                    await self._on_control(consumer, message)
                elif (logged := self._logged(consumer, message)) is not None:
                    found.append(logged)
            if found:
                yield tuple(found)

    async def _on_control(self, consumer: _Consumer, message: Msg) -> None:
        """A heartbeat, or a server that wants to know how far we are before it sends more."""
        assert self._client is not None
        assert message.headers is not None
        reply = message.reply or message.headers.get("Nats-Consumer-Stalled")
        if reply:
            try:
                await self._client.publish(reply)
            except nats.errors.Error:
                consumer.doubt = True
        last = message.headers.get("Nats-Last-Consumer")
        if last is not None and int(last) != consumer.number:
            consumer.doubt = True

    def _logged(self, consumer: _Consumer, message: Msg) -> Logged | None:
        # $JS.ACK.[domain.account.]stream.consumer.delivered.stream_seq.consumer_seq.time.pending
        parts = message.reply.split(".")
        shift = 2 if len(parts) > 9 else 0
        sequence, number, at = int(parts[5 + shift]), int(parts[6 + shift]), int(parts[7 + shift])
        if number != consumer.number + 1:
            consumer.doubt = True
            return None
        consumer.number = number
        return Logged(sequence, at // 1_000_000, message.data)

    async def close(self) -> None:
        self._closed = True
        self._doubt()
        client, self._client = self._client, None
        if client is not None:
            await client.close()


def _ms(text: str) -> int:
    """An RFC 3339 instant with up to nine decimals, in UTC, in ms since 1970, rounded down."""
    whole, _, rest = text.rstrip("Z").partition(".")
    seconds = int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp())
    return seconds * 1000 + int((rest + "000")[:3])
