"""One WebSocket's state: what it is subscribed to and how well it behaves. Pure: time comes in."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase

from telecast.channels.catalogue import Catalogue
from telecast.errors import Code, PeerFault
from telecast.model import Principal
from telecast.protocol.commands import (
    ChangeFilter,
    Command,
    CommandFault,
    Fields,
    Most,
    Publish,
    Start,
    Subscribe,
    Unsubscribe,
    parse_command,
    within,
)
from telecast.protocol.limits import TokenBucket
from telecast.protocol.messages import ReqId
from telecast.protocol.subscription import (
    Grant,
    Rejected,
    grant,
    is_pattern,
    narrowed,
    no_such_filter,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLimits:
    max_channels: int = 32
    max_filter_values: int = 256
    actions_per_second: float = 10
    actions_burst: float = 40
    publishes_per_second: float = 2_000
    bad_messages: int = 20
    """Bad messages among good ones after which the connection ends: each good one forgives one."""
    refused_actions: int = 200
    """Actions over the rate, likewise."""


class Session:
    """Judges every client message before anything is done about it."""

    def __init__(
        self, principal: Principal, catalogue: Catalogue, limits: SessionLimits, now: float
    ) -> None:
        self.principal = principal
        self._catalogue = catalogue
        self.asked: dict[str, Fields] = {}
        """Channel to the filter asked for: what the subscriber would be sent if its key let it."""
        self._by_pattern: frozenset[str] = frozenset()
        """Those of `asked` and `_barred` that were never asked for by their name."""
        self._barred: dict[str, Fields] = {}
        """The same of channels that its key did not let it read when it asked for them."""
        self.started = False
        """Whether a subscription was granted: `since` counts only before that."""
        self.holds: Mapping[str, dict[str, frozenset[str]]] = {}
        """Channel to the filter that holds, under the principal's rights of this moment."""
        self._limits = limits
        self._actions = TokenBucket(limits.actions_per_second, limits.actions_burst, now)
        rate = limits.publishes_per_second
        self._publishes = TokenBucket(rate, max(1, 2 * rate), now)
        self._most = Most(limits.max_channels, limits.max_filter_values)
        self._bad = 0
        self._refused = 0

    def receive(self, text: str, now: float) -> Command:
        """Parse a message and charge it to its rate.

        Raises CommandFault: to be answered with an error. After a `final` one the connection is to
        be closed with its code.
        """
        try:
            command = parse_command(text, self._catalogue.filters, self._most)
        except CommandFault as fault:
            self._charge(now, fault.req_id)
            self._bad += 1
            if self._bad > self._limits.bad_messages:
                raise CommandFault(
                    Code.TOO_MANY_BAD_MESSAGES,
                    f"The last of many: {fault.message}",
                    fault.req_id,
                    final=True,
                ) from None
            raise
        bucket = self._publishes if isinstance(command, Publish) else self._actions
        self._charge(now, command.req_id, bucket)
        self._bad = max(0, self._bad - 1)
        return command

    def _charge(self, now: float, req_id: ReqId, bucket: TokenBucket | None = None) -> None:
        if (bucket or self._actions).take(now):
            self._refused = max(0, self._refused - 1)
            return
        self._refused += 1
        final = self._refused > self._limits.refused_actions
        raise CommandFault(
            Code.TOO_MANY_ACTIONS,
            "More messages a second than this service takes from one connection.",
            req_id,
            {"final": final, "limits": self.limits_sent()},
            final=final,
        )

    def subscribe(self, command: Subscribe) -> tuple[Grant, Start | None]:
        """What a subscribe is granted; the session then holds it. Raises PeerFault."""
        if command.start is not None and self.started:
            raise PeerFault(
                Code.BAD_REQUEST, "`since` counts only in the first subscription of a connection."
            )
        return self.ask(command.channels, command.fields), command.start

    def ask(self, names: Collection[str], fields: Fields) -> Grant:
        """Note what is granted of this. Raises PeerFault and notes nothing."""
        # Before the names are looked up: each unknown one is compared with all there are.
        within("max_channels", len(names), self._limits.max_channels)
        granted = grant(self._catalogue, names, fields, self.principal)
        asked = {**self.asked, **granted.asked}
        barred = {**self._barred, **granted.barred}
        barred = {name: fields for name, fields in barred.items() if name not in asked}
        named = (granted.asked.keys() | granted.barred.keys()) - granted.by_pattern
        by_pattern = (self._by_pattern | granted.by_pattern) - named
        wished = {**barred, **asked}
        within("max_channels", len(wished) - len(by_pattern), self._limits.max_channels)
        self._count_values(wished, by_pattern)
        self.asked, self._barred, self._by_pattern = asked, barred, by_pattern
        self.started = True
        self._hold()
        return granted

    def _count_values(self, wished: Mapping[str, Fields], by_pattern: Collection[str]) -> None:
        """Raises PeerFault LIMIT_EXCEEDED."""
        # What a pattern stands for is asked once, however many channels it matches.
        counts = {name: sum(map(len, fields.values())) for name, fields in wished.items()}
        values = max((counts[name] for name in by_pattern), default=0)
        values += sum(count for name, count in counts.items() if name not in by_pattern)
        within("max_filter_values", values, self._limits.max_filter_values)

    def unsubscribe(self, command: Unsubscribe) -> tuple[Rejected, ...]:
        """Forget channels; what matches none that is subscribed comes back as rejected."""
        missing = []
        for name in command.channels:
            gone = _meant(name, self.asked)
            for each in _meant(name, self._barred):
                del self._barred[each]
            if not gone:
                missing.append(name)
            for each in gone:
                del self.asked[each]
        self._by_pattern &= self.asked.keys() | self._barred.keys()
        self._hold()
        return tuple(Rejected(name, Code.BAD_REQUEST, "It was not subscribed.") for name in missing)

    def change_filter(self, command: ChangeFilter) -> tuple[Rejected, ...]:
        """Add and take away filter values; channels that are not subscribed come back as rejected.
        Raises PeerFault and changes nothing."""
        found = {name: _meant(name, self.asked) for name in command.channels}
        channels = dict.fromkeys(each for meant in found.values() for each in meant)
        if not channels:
            raise PeerFault(Code.BAD_REQUEST, "None of these channels is subscribed.")
        declared = {each: self._catalogue[each].filters for each in channels}
        for field in command.add.keys() | command.remove.keys():
            if not any(field in filters for filters in declared.values()):
                raise no_such_filter(field, declared)
        asked = self.asked | {
            each: _changed(each, self.asked[each], command, filters)
            for each, filters in declared.items()
        }
        barred = dict(self._barred)
        for each in {each for name in command.channels for each in _meant(name, barred)}:
            with suppress(PeerFault):  # it is not to be known that there is such a channel
                filters = self._catalogue[each].filters
                barred[each] = _changed(each, barred[each], command, filters)
        self._count_values({**barred, **asked}, self._by_pattern)
        self.asked, self._barred = asked, barred
        self._hold()
        return tuple(
            Rejected(name, Code.BAD_REQUEST, "It was not subscribed.")
            for name, meant in found.items()
            if not meant
        )

    def _hold(self) -> None:
        """What was asked for has changed, or the principal's rights have."""
        asked = self.asked.items() if self.principal.may("read") else ()
        channels = [(self._catalogue[name], fields) for name, fields in asked]
        self.holds = {
            channel.name: narrowed(channel, fields, self.principal)
            for channel, fields in channels
            if channel.reached_by(self.principal)
        }

    def narrow(self, principal: Principal) -> tuple[Rejected, ...]:
        """The key's rights have changed: channels that it may not read any more are rejected, and
        those that were asked for and refused are taken up if it may read them now."""
        before = self.holds.keys()
        self.principal = principal
        if principal.may("read"):
            for name in tuple(self._barred):
                if self._catalogue[name].reached_by(principal):
                    self.asked[name] = self._barred.pop(name)
        self._hold()
        lost = before - self.holds.keys()
        return tuple(
            Rejected(name, Code.FORBIDDEN, f"This key may not read {name!r} any more.")
            for name in sorted(lost)
        )

    def limits_sent(self) -> dict[str, int]:
        return {
            "maxChannels": self._limits.max_channels,
            "maxFilterValues": self._limits.max_filter_values,
            "actionsPerSecond": int(self._limits.actions_per_second),
            "actionsBurst": int(self._limits.actions_burst),
        }


def _meant(name: str, channels: Collection[str]) -> list[str]:
    """Those of the channels that a name or a pattern means."""
    if is_pattern(name):
        return [each for each in channels if fnmatchcase(each, name)]
    return [name] if name in channels else []


def _changed(
    channel: str, fields: Fields, command: ChangeFilter, declared: Collection[str]
) -> Fields:
    """The filter of a channel as it is to be. Raises PeerFault."""
    result = dict(fields)
    for name in sorted(command.add.keys() | command.remove.keys()):
        if name not in declared:
            continue
        if name not in fields:
            raise PeerFault(
                Code.BAD_REQUEST,
                f"You have not filtered {channel} by {name!r}, so it has every value: subscribe "
                "with a filter first.",
            )
        nothing = frozenset[str]()
        result[name] = (fields[name] | command.add.get(name, nothing)) - command.remove.get(
            name, nothing
        )
        if not result[name]:
            raise PeerFault(
                Code.BAD_REQUEST, f"{channel} would have no {name!r} left: unsubscribe it instead."
            )
    return result
