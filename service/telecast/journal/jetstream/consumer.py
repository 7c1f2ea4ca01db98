"""What one consumer of a stream delivers, for as long as it is sure that nothing is missing.

Whatever may have dropped a message on the way (a reconnect, a full buffer, a server that died)
makes the consumer's own numbers jump, or lets its heartbeats stop or name another number than the
last one seen. Then it is in doubt, and thrown away: its successor begins behind the last message
that was handed on. nats-py's ordered consumer was weighed: with a full buffer it skips without a
word.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from telecast.journal.jetstream.log import Logged
from telecast.journal.jetstream.servers import TROUBLE, Servers

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 1.0
SILENCE_SECONDS = 2.5
"""Without a message or a heartbeat for so long, the consumer is taken for lost."""
AT_ONCE = 256
"""Messages that are handed on together at the most."""


class Consumer:
    """Ephemeral, without acknowledgements. It begins at one message and ends when in doubt."""

    def __init__(self, servers: Servers, stream: str) -> None:
        self._servers = servers
        self._stream = stream
        self._arrived: deque[Msg] = deque()
        self._wake = asyncio.Event()
        self._number = 0
        """The consumer's own number of its last delivery."""
        self.pending = 0
        """Messages behind the last delivery that were in the stream when it was sent."""
        self._doubt = False
        self._subscription: Subscription | None = None

    def doubt(self) -> None:
        """Something may be missing: deliver no more."""
        self._doubt = True
        self._wake.set()

    def _sure(self) -> bool:
        return not self._doubt

    async def begin(self, first: int, subject: str | None = None) -> None:
        """Deliver from this sequence on, of one subject only where it is given. Raises Refused,
        and what TROUBLE names."""
        inbox, self._subscription = await self._servers.subscribe(self._take)
        config: dict[str, object] = {
            "deliver_subject": inbox,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": first,
            "ack_policy": "none",
            "replay_policy": "instant",
            "flow_control": True,
            "idle_heartbeat": int(HEARTBEAT_SECONDS * 1e9),
            "inactive_threshold": int(30e9),
            "mem_storage": True,
            "num_replicas": 1,
        }
        if subject is not None:
            config["filter_subject"] = subject
        await self._servers.call(
            f"CONSUMER.CREATE.{self._stream}", {"stream_name": self._stream, "config": config}
        )

    async def end(self) -> None:
        if self._subscription is None:
            return
        try:
            await self._subscription.unsubscribe()
        except nats.errors.Error as error:
            log.debug("a consumer is left to its servers", extra={"reason": repr(error)})

    async def _take(self, message: Msg) -> None:
        self._servers.heard()
        self._arrived.append(message)
        self._wake.set()

    async def deliveries(self) -> AsyncGenerator[tuple[Logged, ...], None]:
        """What comes, gathered, until it is in doubt."""
        while self._sure():
            if not self._arrived:
                self._wake.clear()
                try:
                    async with asyncio.timeout(SILENCE_SECONDS):
                        await self._wake.wait()
                except TimeoutError:
                    return
                continue
            found: list[Logged] = []
            while self._arrived and len(found) < AT_ONCE and self._sure():
                message = self._arrived.popleft()
                if message.headers and message.headers.get("Status") == "100":
                    await self._on_control(message, message.headers)
                elif (logged := self._logged(message)) is not None:
                    found.append(logged)
            if found:
                yield tuple(found)

    async def _on_control(self, message: Msg, headers: dict[str, str]) -> None:
        """A heartbeat, or a server that wants to know how far we are before it sends more."""
        reply = message.reply or headers.get("Nats-Consumer-Stalled")
        if reply:
            try:
                await self._servers.answer(reply)
            except TROUBLE:
                self.doubt()
        last = headers.get("Nats-Last-Consumer")
        if last is not None and int(last) != self._number:
            self.doubt()

    def _logged(self, message: Msg) -> Logged | None:
        # $JS.ACK.[domain.account.]stream.consumer.delivered.stream_seq.consumer_seq.time.pending
        parts = message.reply.split(".")
        shift = 2 if len(parts) > 9 else 0
        sequence, number, at = int(parts[5 + shift]), int(parts[6 + shift]), int(parts[7 + shift])
        if number != self._number + 1:
            self.doubt()
            return None
        self._number = number
        self.pending = int(parts[8 + shift])
        return Logged(sequence, at // 1_000_000, message.data)
