"""Which channels have gone quiet: so that no green light hides a feed that is dead.

A channel with `stale_after` is stale once nothing was committed to it, and none of its publishers
has said that it is alive, for so many seconds. Everybody who is subscribed gets a `stale` message
then, and a `fresh` one when it goes on; who subscribes meanwhile gets `stale` at once. A channel
that never had an event counts from the service's start, and says so: it has no `since`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping

from telecast.channels.catalogue import Catalogue
from telecast.fanout.broadcaster import Broadcaster
from telecast.fanout.subscriber import Subscriber
from telecast.journal.ageing import monotonic
from telecast.protocol import messages
from telecast.protocol.framing import Message
from telecast.tape.tape import Tape
from telecast.turns import in_turns

log = logging.getLogger(__name__)


class Staleness:
    """`now` gives seconds since 1970."""

    def __init__(
        self,
        catalogue: Catalogue,
        tape: Tape,
        broadcaster: Broadcaster,
        *,
        now: Callable[[], float],
        elapsed: Callable[[], float] = monotonic,
    ) -> None:
        self._watched = {
            name: channel.stale_after
            for name, channel in catalogue.items()
            if channel.stale_after is not None
        }
        self._tape = tape
        self._broadcaster = broadcaster
        self._now = now
        self._began = now()
        self._alive: dict[str, float] = {}
        self._stale: dict[str, float | None] = {}
        self._elapsed = elapsed
        self._seen: dict[str, tuple[object, float]] = {}
        """The last sign of each channel, and when a look first found it, in monotonic time: a clock
        that is set back must not make a dead feed look alive."""

    @property
    def stale(self) -> Mapping[str, float | None]:
        """Each stale channel, and when it last gave a sign of life; None: never."""
        return self._stale

    @property
    def watched(self) -> Iterable[str]:
        """The channels that can be stale."""
        return self._watched

    def alive(self, channel: str) -> float:
        """A publisher of the channel has said that it is there; returns when."""
        self._alive[channel] = now = self._now()
        return now

    def last_sign(self, channel: str) -> float | None:
        """When an event was last committed or a publisher gave a sign of life; None: never."""
        last = self._tape.logs[channel].last
        signs = [] if last is None else [last.timestamp / 1000]
        if channel in self._alive:
            signs.append(self._alive[channel])
        return max(signs, default=None)

    async def look(self) -> tuple[list[str], list[str]]:
        """Notice what has changed and send it; returns the channels that became stale, and fresh.

        Called every second or so.
        """
        now = self._now()
        stale, fresh = [], []
        for name, seconds in self._watched.items():
            last = self.last_sign(name)
            since = self._began if last is None else last
            if max(now - since, self._quiet(name)) < seconds:
                if self._stale.pop(name, None) is not None:
                    fresh.append(name)
            elif name not in self._stale:
                # Rows outlive the events that are held: they were published some time.
                never = last is None and not self._tape.logs[name].rows
                self._stale[name] = None if never else since
                stale.append(name)
        for name in stale:
            log.warning("channel stale", extra={"channel": name, "since": self._stale[name]})
            await self._send(name, self._message(name))
        for name in fresh:
            log.info("channel fresh", extra={"channel": name})
            await self._send(name, messages.fresh(int(now * 1000), name))
        return stale, fresh

    def _quiet(self, name: str) -> float:
        """For how long the looks have found nothing new, whatever the clock says."""
        last = self._tape.logs[name].last
        sign = (None if last is None else last.seq, self._alive.get(name))
        elapsed = self._elapsed()
        if name not in self._seen or self._seen[name][0] != sign:
            self._seen[name] = sign, elapsed
        return elapsed - self._seen[name][1]

    def greet(self, subscriber: Subscriber, channels: Iterable[str]) -> None:
        """Send a newcomer which of its channels are stale now."""
        for name in channels:
            if name in self._stale:
                self._broadcaster.send(subscriber, self._message(name))

    def _message(self, name: str) -> Message:
        since = self._stale[name]
        return messages.stale(
            int(self._now() * 1000), name, None if since is None else int(since * 1000)
        )

    async def _send(self, name: str, message: Message) -> None:
        def steps() -> Iterable[None]:
            for subscriber in list(self._broadcaster.subscribers.values()):
                if name in subscriber.selection.channels:
                    self._broadcaster.send(subscriber, message)
                yield

        await in_turns(steps())
