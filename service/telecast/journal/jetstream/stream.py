"""The log as a JetStream stream.

Theory of operation. A stream keeps its messages in one order and numbers them from 1 without a
hole. `follow` reads them by one consumer after the other, each of which begins behind the last
message that was handed on; `consumer` says when one is thrown away. So a message is never skipped
on the way, and a stream that itself has a hole is damaged, which is fatal. What would break it:
going on after a jump, or beginning a consumer at the last message again or behind the stream's end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import nats.errors

from telecast.errors import JournalCorrupt, JournalFull, JournalUnavailable
from telecast.journal.ageing import monotonic
from telecast.journal.jetstream.address import Access, Address
from telecast.journal.jetstream.checkpoints.objects import ObjectShelf
from telecast.journal.jetstream.clock import LogClock
from telecast.journal.jetstream.consumer import Consumer
from telecast.journal.jetstream.description import (
    FORMAT,
    kept_epoch,
    life_of,
    ms_of,
    new_stream,
    unusable,
)
from telecast.journal.jetstream.log import Extent, Log, Logged
from telecast.journal.jetstream.peers import NatsPeers
from telecast.journal.jetstream.servers import FULL, NOT_FOUND, TROUBLE, Refused, Servers

log = logging.getLogger(__name__)

RETRY_SECONDS = 0.25
DOUBT_SECONDS = 12.0
"""How long a log that seems to have lost its end, while it is followed, is asked again."""
PATIENT_SECONDS = 30.0
"""How long a node that starts waits for servers that elect a leader."""
UNSETTLED = 10008
"""JetStream is temporarily unavailable (server/errors.json)."""
BESIDE_PAYLOAD = 4096
"""What a server counts towards its largest message besides ours: subject and headers."""
NO_JETSTREAM = frozenset({10035, 10039, 10076})


class Trimmed(JournalUnavailable):
    """What comes next is in the log no more."""


@dataclass(slots=True)
class _Doubt:
    """Up to where the log was followed, the time of that message where it is known, and since when
    (on the loop's clock) the log seems not to have it any more."""

    sequence: int
    timestamp: int | None = None
    since: float | None = None

    def seen(self, logged: Logged) -> None:
        self.sequence, self.timestamp = logged.sequence, logged.timestamp


class JetStreamLog(Log):
    """A stream `NAME` with one subject, made on first use unless `make` is false."""

    def __init__(
        self, address: Address, access: Access, *, replicas: int = 1, make: bool = True
    ) -> None:
        self._make = make
        self.epoch = self.life = ""
        self.most_bytes = 0
        self._address = address
        self._replicas = replicas
        self._servers = Servers(address, access, self._doubt)
        self.peers = self._nodes = NatsPeers(self._servers)
        self.shelf = ObjectShelf(self._servers, address.name, lambda: self._replicas)
        self._subject = ""
        self._consumer: Consumer | None = None
        self._closed = False
        self._patient_until = 0.0
        self._clock = LogClock()

    async def open(self) -> None:
        try:
            await self._servers.connect()
            self._patient_until = asyncio.get_running_loop().time() + PATIENT_SECONDS
            self._begin(await self._stream())
        except nats.errors.NoRespondersError as error:
            await self.close()
            raise JournalUnavailable(
                f"The servers of {self._address} have JetStream switched off: start them with "
                "`-js` and a store directory."
            ) from error
        except TROUBLE as error:
            await self.close()
            raise self._silent(error) from error
        except BaseException:
            await self.close()
            raise

    async def _asked(self, subject: str, body: object = None) -> dict[str, Any]:
        """What the servers answer to what may be asked twice; while this node starts, they are
        waited for as long as it takes them to elect a leader. Raises as `Servers.call`."""
        loop, said = asyncio.get_running_loop(), False
        while True:
            try:
                return await self._servers.call(subject, body)
            except (TimeoutError, Refused) as fault:
                unsettled = isinstance(fault, TimeoutError) or fault.code == UNSETTLED
                waited = self._servers.forbidden or loop.time() >= self._patient_until
                if not unsettled or waited:
                    raise
            if not said:
                log.warning("the servers have no leader just now: waiting for one")
                said = True
            await asyncio.sleep(RETRY_SECONDS)

    def _silent(self, error: BaseException) -> JournalUnavailable:
        if self._servers.forbidden:
            return JournalUnavailable(
                f"{self._address} does not let this user do it ({self._servers.forbidden}): the "
                "operating page, Several nodes, lists the subjects that it needs."
            )
        return JournalUnavailable(f"{self._address} did not answer ({error!r}).")

    def _doubt(self) -> None:
        if self._consumer is not None:
            self._consumer.doubt()

    async def _stream(self) -> dict[str, Any]:
        """The stream's description; it is made if it is not there."""
        name = self._address.name
        try:
            return await self._asked(f"STREAM.INFO.{name}")
        except Refused as refused:
            if refused.code in NO_JETSTREAM:
                raise JournalUnavailable(
                    f"JetStream is not enabled for this account at {self._address}."
                ) from refused
            if refused.code != NOT_FOUND or not self._make:
                raise self._unusable(refused) from refused
        wanted = new_stream(name, self._replicas)
        try:
            return await self._asked(f"STREAM.CREATE.{name}", wanted)
        except Refused as refused:
            try:  # another node may have been faster
                return await self._asked(f"STREAM.INFO.{name}")
            except Refused:
                raise self._unusable(refused) from refused

    def _unusable(self, refused: Refused) -> JournalUnavailable:
        return unusable(self._address, self._replicas, refused)

    def _begin(self, info: dict[str, Any]) -> None:
        self._see_clock(info)
        config, name = info["config"], self._address.name
        metadata = config.get("metadata") or {}
        if "telecast.format" not in metadata:
            raise JournalUnavailable(
                f"The stream {name} at {self._address} belongs to something else: name another."
            )
        if "telecast.moving" in metadata:
            raise JournalUnavailable(
                f"`telecast journal move` into the stream {name} was not finished: run it again."
            )
        if metadata["telecast.format"] != FORMAT:
            raise JournalUnavailable(
                f"The stream {name} has format {metadata['telecast.format']}, and this version of "
                f"Telecast reads {FORMAT}: upgrade Telecast."
            )
        life = metadata["telecast.epoch"]
        self._subject = f"telecast.{name}.{life}"
        self._nodes.place(f"{self._subject}.nodes")
        self.life = life_of(info)
        self.epoch = kept_epoch(metadata, self.life) or self.life
        self.most_bytes = self._servers.max_payload - BESIDE_PAYLOAD
        self._replicas = config.get("num_replicas", 1)
        if self._make and self._replicas == 1:
            log.warning(
                "the log has one replica: whatever its server loses is lost",
                extra={"stream": name, "advice": "three servers and `replicas = 3`"},
            )
        if config.get("compression", "none") != "none":
            log.warning(
                "the servers compress the log: a server that is killed may not be able to read it",
                extra={"stream": name, "advice": f"nats stream edit {name} --compression none"},
            )
        if self._make:  # a node; a command that only looks says what it finds itself
            log.warning(
                "make sure that the NATS servers sync before they acknowledge",
                extra={"setting": "jetstream { sync_interval: always }", "stream": name},
            )

    async def info(self) -> dict[str, Any]:
        """What the servers say of the stream. Raises JournalUnavailable."""
        try:
            info = await self._servers.call(f"STREAM.INFO.{self._address.name}")
        except Refused as refused:
            raise self._unusable(refused) from refused
        except TROUBLE as error:
            raise self._silent(error) from error
        self._see_clock(info)
        return info

    def _see_clock(self, info: dict[str, Any]) -> None:
        if "ts" in info:
            self._clock.seen(ms_of(info["ts"]) / 1000, monotonic())

    def now(self) -> float | None:
        return self._clock.at(monotonic())

    async def extent(self) -> Extent:
        state = (await self.info())["state"]
        first, last = state["first_seq"], state["last_seq"]
        self.end = max(self.end, last)
        return Extent(first if state["messages"] else last + 1, last)

    async def timestamp_of(self, sequence: int) -> int | None:
        return await self._time_of(sequence)

    async def _time_of(self, sequence: int) -> int | None:
        try:
            found = await self._asked(f"STREAM.MSG.GET.{self._address.name}", {"seq": sequence})
        except Refused:
            return None
        except TROUBLE as error:
            raise self._silent(error) from error
        return ms_of(found["message"]["time"])

    async def append(self, data: bytes) -> None:
        if len(data) > self.most_bytes:
            raise JournalUnavailable(
                f"A message of {len(data):,} bytes does not fit: let the NATS servers take more "
                "(`max_payload`, 8 MB is a good value)."
            )
        try:
            kept = await self._servers.ask(self._subject, data)
            # A follower whose server has died gets nothing new for some seconds.
            self.end = max(self.end, int(kept["seq"]))
        except Refused as refused:
            if refused.code in FULL:
                raise JournalFull(
                    f"The log {self._address} takes no more ({refused}). It is being trimmed: "
                    "publish again soon. If it stays full, give its stream (`max_bytes`) or its "
                    "servers more space."
                ) from refused
            raise JournalUnavailable(f"{self._address} refused a message: {refused}.") from refused
        except TROUBLE as error:
            raise self._silent(error) from error

    async def forget(self, upto: int) -> None:
        try:
            await self._servers.call(f"STREAM.PURGE.{self._address.name}", {"seq": upto + 1})
        except Refused as refused:
            raise self._unusable(refused) from refused
        except TROUBLE as error:
            raise self._silent(error) from error

    def known_end(self) -> int:
        return max([self.end, *(_end_of(each.facts) for each in self._nodes.others())])

    def away(self) -> str | None:
        return self._servers.away()

    async def follow(self, after: int) -> AsyncIterator[tuple[Logged, ...]]:
        self._servers.heard()  # the silence is counted from here
        doubt = _Doubt(after)
        while not self._closed:
            consumer = self._consumer = Consumer(self._servers, self._address.name)
            try:
                await self._compare(doubt)
                await consumer.begin(after + 1)
                async for logged in consumer.deliveries():
                    for each in logged:
                        after += 1
                        if each.sequence != after:
                            await self._explain_gap(after, each.sequence)
                    self.end = max(self.end, after + consumer.pending)
                    doubt.seen(logged[-1])
                    self._clock.seen(logged[-1].timestamp / 1000, monotonic())
                    yield logged
            except Trimmed as trimmed:
                raise JournalUnavailable(trimmed.message) from trimmed
            except (Refused, JournalUnavailable, *TROUBLE) as error:
                log.debug("no consumer yet", extra={"reason": repr(error)})
                await asyncio.sleep(RETRY_SECONDS)
            finally:
                await consumer.end()
                await self._servers.move_on()

    async def _compare(self, doubt: _Doubt) -> None:
        """Before a consumer begins: the log is still the one that was followed, up to there.

        A consumer behind the log's end would be made without a word, and would pass over what
        takes the numbers of lost messages. A leader that just woke up may answer from the past, so
        it is asked again for a while. Raises JournalCorrupt; JournalUnavailable to be asked again.
        """
        info = await self.info()
        if life_of(info) != self.life:
            raise JournalCorrupt(
                f"The log {self._address} was made anew or restored while this node followed it."
            )
        first, last, after = info["state"]["first_seq"], info["state"]["last_seq"], doubt.sequence
        self.end = max(self.end, last)
        known = doubt.timestamp is None or after < first
        if last >= after and (known or await self._time_of(after) == doubt.timestamp):
            doubt.since = None
            return
        now = asyncio.get_running_loop().time()
        doubt.since = now if doubt.since is None else doubt.since
        if now - doubt.since >= DOUBT_SECONDS:
            raise JournalCorrupt(
                f"The log {self._address} ends at message {last} or has other messages than "
                f"before; this node is at {after}. The log has lost its end."
            )
        raise JournalUnavailable("the log may have lost its end")

    async def _explain_gap(self, missing: int, found: int) -> None:
        """Raises JournalUnavailable or JournalCorrupt; or what `extent` does."""
        if (await self.extent()).first > missing:
            raise Trimmed(
                f"The log {self._address} was trimmed to message {found} while this node was at "
                f"{missing - 1}: restart the node, and it goes on from a checkpoint."
            )
        raise JournalCorrupt(
            f"The log {self._address} has lost message {missing}: it goes on with {found}."
        )

    async def close(self) -> None:
        self._closed = True
        self._doubt()
        await self._nodes.end()
        await self._servers.close()


def _end_of(facts: Mapping[str, Any]) -> int:
    """The last message of the log that another node knows of."""
    return int(facts.get("logSequence") or 0) + int(facts.get("logBehind") or 0)
