"""Who is connected: admission, limits, ghosts, and what becomes of them when a key changes."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from telecast.clients.bans import Banned, Bans
from telecast.clients.client import Client, Facts
from telecast.errors import Code, OwnFault, PeerFault, TelecastError
from telecast.keys import KeyStore
from telecast.protocol.limits import TokenBucket
from telecast.turns import in_turns

KEPT_VALUES = 16
"""Values of each filter that are kept of one that has ended: 256 large ones would be 80 KB."""
KEPT_ENDED = 1_000
"""Ended streams that an operator can still look at, about 1 MB."""
BY_ITSELF = "CLIENT"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientLimits:
    max_connections: int
    max_connections_per_key: int
    max_connections_per_address: int
    new_connections_per_second: float
    new_connections_burst: float


@dataclass(frozen=True, slots=True)
class Ended:
    """A stream that is over. `code` is that of the fault for which the service ended it, else None:
    the client went. `facts` are None where it was never served."""

    number: int
    client: Client
    at: float
    code: str | None
    reason: str | None
    facts: Facts | None


class Clients:
    """Every connection is counted here from before its handshake is answered until it is gone."""

    def __init__(
        self,
        limits: ClientLimits,
        keys: KeyStore,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.refused: Counter[str] = Counter()
        self.opened: Counter[str] = Counter()
        """Transport to connections since the start."""
        self.closed: Counter[str] = Counter()
        self.left: Counter[tuple[str, str]] = Counter()
        """(transport, error code) to streams that are over; CLIENT: the client left."""
        self._limits = limits
        self._keys = keys
        self._clock = clock
        self._newcomers = TokenBucket(
            limits.new_connections_per_second, limits.new_connections_burst, clock()
        )
        self._clients: dict[str, Client] = {}
        self._by_key: defaultdict[str, dict[Client, None]] = defaultdict(dict)
        self._by_address: defaultdict[str, dict[Client, None]] = defaultdict(dict)
        self._namesakes: defaultdict[tuple[str, str], dict[Client, None]] = defaultdict(dict)
        """(key, clientId) to the clients with this name."""
        self._by_session: defaultdict[str, dict[Client, None]] = defaultdict(dict)
        self._closing = False
        self._bans = Bans()
        self._admitted = 0
        self._ended: deque[Ended] = deque(maxlen=KEPT_ENDED)
        self._ended_count = 0

    def __len__(self) -> int:
        return len(self._clients)

    def __iter__(self) -> Iterator[Client]:
        return iter(tuple(self._clients.values()))

    def now(self) -> float:
        """The registry's clock, by which `heard_at` and staleness count."""
        return self._clock()

    def get(self, connection_id: str) -> Client | None:
        return self._clients.get(connection_id)

    def of_session(self, session_id: str) -> tuple[Client, ...]:
        """The streams of a browser's session."""
        return tuple(self._by_session.get(session_id, ()))

    def after(self, number: int) -> Iterator[Client]:
        """The open ones in the order in which they came, from behind this number on."""
        those = tuple(self._clients.values())
        return iter(those[bisect_right(those, number, key=_number) :])

    def ended_before(self, number: int | None) -> Iterator[Ended]:
        """Those that ended last, newest first, from before this number on."""
        for each in reversed(tuple(self._ended)):
            if number is None or each.number < number:
                yield each

    def connections(self) -> Counter[str]:
        """Transport to open connections."""
        return self.opened - self.closed

    def limit(
        self,
        *,
        max_connections: int,
        max_connections_per_key: int,
        max_connections_per_address: int,
    ) -> None:
        """Other limits for those who come from now on; nobody who is here is ended."""
        self._limits = replace(
            self._limits,
            max_connections=max_connections,
            max_connections_per_key=max_connections_per_key,
            max_connections_per_address=max_connections_per_address,
        )

    def close_admission(self) -> None:
        """Admit nobody any more."""
        self._closing = True

    def admit(self, client: Client) -> None:
        """Count a newcomer in. Raises TelecastError (all retryable), and then it is not counted."""
        try:
            self._admit(client)
        except TelecastError as fault:
            self.refused[fault.code] += 1
            raise
        self._admitted += 1
        client.number = self._admitted
        client.heard_at = self._clock()
        self._clients[client.connection_id] = client
        for group, name in self._groups(client):
            group[name][client] = None
        self.opened[client.transport] += 1

    def _admit(self, client: Client) -> None:
        if self._closing:
            raise OwnFault(Code.SHUTTING_DOWN, "The service is shutting down.", retry_after=1)
        self._bans.check(banned_as(client), self._clock())
        if not self._newcomers.take(self._clock()):
            wait = 1 + self._newcomers.wait()
            raise OwnFault(
                Code.OVERLOADED,
                "Too many clients connect at once.",
                retry_after=round(wait, 1),
            )
        limits, key_id, address = self._limits, client.principal.key_id, client.address
        by_key, by_address = self._by_key.get(key_id, ()), self._by_address.get(address, ())
        most_here = limits.max_connections_per_address
        full = [
            (name, most)
            for name, many, most in (
                ("max_connections", len(self._clients), limits.max_connections),
                ("max_connections_per_key", len(by_key), limits.max_connections_per_key),
                ("max_connections_per_address", len(by_address), most_here),
            )
            if many >= most
        ]
        if full:
            # One that makes room under each of them, or none is ended.
            ghost = self._ghost(client, at=address if len(by_address) >= most_here else None)
            if ghost is None:
                name, most = full[0]
                raise PeerFault(
                    Code.TOO_MANY_CONNECTIONS,
                    f"The limit {name} ({most}) is reached.",
                    {name: most},
                    retry_after=5,
                )
            self.replace(ghost)

    def _ghost(self, newcomer: Client, at: str | None) -> Client | None:
        """The newcomer's own oldest silent connection of the same clientId: it may make room.

        `at` is the address that it must have, if room is needed there.
        """
        ghosts = [
            client
            for client in self._called_like(newcomer)
            if (at is None or client.address == at)
            and client.subscriber is not None
            and client.subscriber.watch.silent_beats > 0
        ]
        return min(ghosts, key=lambda client: client.opened_at, default=None)

    def supersede(self, newcomer: Client) -> None:
        """End the older WebSockets of the same principal and clientId."""
        for client in self._called_like(newcomer):
            if client.transport == newcomer.transport and client is not newcomer:
                self.replace(client)

    def named(self, key_id: str, client_id: str) -> tuple[Client, ...]:
        """The open streams of a key that have this clientId."""
        return tuple(self._namesakes.get((key_id, client_id), ()))

    def _called_like(self, client: Client) -> tuple[Client, ...]:
        if client.client_id is None:
            return ()
        return tuple(self._namesakes.get((client.principal.key_id, client.client_id), ()))

    def _groups(self, client: Client) -> Iterator[tuple[defaultdict[Any, dict[Client, None]], Any]]:
        """The groups that it is in, and its name in each."""
        key_id = client.principal.key_id
        yield self._by_key, key_id
        yield self._by_address, client.address
        if client.session_id is not None:
            yield self._by_session, client.session_id
        if client.client_id is not None:
            yield self._namesakes, (key_id, client.client_id)

    def replace(self, client: Client) -> None:
        """A newer one, here or at another node, took its place."""
        client.evict(
            PeerFault(Code.REPLACED, "A newer connection of the same clientId took its place.")
        )
        self.leave(client)

    def leave(self, client: Client) -> None:
        """Forget a connection; harmless when it is gone already."""
        if self._clients.get(client.connection_id) is not client:
            return
        del self._clients[client.connection_id]
        for group, name in self._groups(client):
            del group[name][client]
            if not group[name]:
                del group[name]
        self.closed[client.transport] += 1

    def note_end(
        self, client: Client, at: float, fault: TelecastError | None, *, head: int
    ) -> None:
        """Remember how a stream ended. Its subscriber must still be there, and detached: so it
        knows how far it came. `head` is the seq of the newest event."""
        self._ended_count += 1
        seq = 0 if client.subscriber is None else client.subscriber.last
        code, reason = (None, None) if fault is None else (str(fault.code), fault.message)
        self.left[client.transport, code or BY_ITSELF] += 1
        facts = client.facts(seq, head)
        if facts is not None:
            facts = replace(facts, filters=_shortened(facts.filters))
        self._ended.append(Ended(self._ended_count, client, at, code, reason, facts))

    # --- what an operator does

    def ban(self, banned: Set[Banned], seconds: float) -> None:
        """Refuse each key and clientId for so long. Raises PeerFault, and bans nobody."""
        self._bans.add(banned, self._clock(), seconds)

    def lift_ban(self, banned: Banned) -> None:
        """Let in again who was banned."""
        self._bans.lift(banned)

    def ban_by_name(self, banned: Banned, seconds: float) -> None:
        """The same for one that was banned at another node, or before this start; where there are
        too many bans already it does not hold."""
        with suppress(PeerFault):
            self._bans.add({banned}, self._clock(), seconds)

    async def look(self) -> None:
        """Look whether each SSE stream takes what waits for it, a few at a time."""
        await in_turns(
            client.stale_seconds(self._clock()) for client in self if client.transport == "sse"
        )

    async def recheck(self) -> None:
        """Hold every connection against its key as it is now."""
        await in_turns(self._recheck())

    def _recheck(self) -> Iterator[None]:
        """A step is a client that is concerned. Where nothing has changed one of a key is looked
        at, and one that only reads."""
        for key_id, mine in tuple(self._by_key.items()):
            principal = self._keys.current(key_id)
            if principal is None:
                fault = PeerFault(Code.UNAUTHENTICATED, "This key was revoked or has expired.")
                for client in tuple(mine):
                    client.evict(fault)
                    yield
                continue
            rights = {False: principal, True: principal.reading()}
            as_they_are = set[bool]()
            for client in tuple(mine):
                if client.reads_only in as_they_are:
                    continue
                holds = rights[client.reads_only]
                if holds != client.principal:
                    client.principal = holds
                    client.narrow(holds)
                    yield
                else:
                    # All rights are compared each time, so those that came later have theirs too.
                    as_they_are.add(client.reads_only)
                    if len(as_they_are) == len(rights):
                        break


def _number(client: Client) -> int:
    return client.number


def banned_as(client: Client) -> Banned:
    """What a ban of this client refuses."""
    return client.principal.key_id, client.client_id


def _shortened(
    filters: Mapping[str, Mapping[str, frozenset[str]]],
) -> dict[str, dict[str, frozenset[str]]]:
    """The filters of one that has ended, as far as they are kept."""
    return {
        name: {field: frozenset(sorted(values)[:KEPT_VALUES]) for field, values in fields.items()}
        for name, fields in filters.items()
    }
