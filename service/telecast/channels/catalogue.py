"""The channels of one service: a value that is built at start and handed to whoever needs it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from telecast.channels.builtin import ENTRIES
from telecast.channels.channel import Channel
from telecast.errors import Code, PeerFault
from telecast.model import Principal, Retention

__all__ = ["CHANNELS", "Catalogue", "Channel", "nearest"]


class Catalogue(Mapping[str, Channel]):
    """Channels by name, in the order in which they are listed. It never changes."""

    def __init__(self, channels: Iterable[Channel]) -> None:
        self._channels = {channel.name: channel for channel in channels}
        self.filters: frozenset[str] = frozenset(
            name for channel in self._channels.values() for name in channel.filters
        )
        """Every filter that some channel has."""

    def __getitem__(self, name: str) -> Channel:
        return self._channels[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._channels)

    def __len__(self) -> int:
        return len(self._channels)

    @property
    def retention(self) -> dict[str, Retention]:
        """What a journal keeps of each channel."""
        return {name: channel.retention for name, channel in self._channels.items()}

    def named(self, name: str) -> Channel:
        """Raises PeerFault UNKNOWN_CHANNEL, with the nearest name."""
        try:
            return self._channels[name]
        except KeyError:
            raise PeerFault(
                Code.UNKNOWN_CHANNEL,
                f"There is no channel {name[:64]!r}.{nearest(name[:64], self._channels)}",
                {"channels": list(self._channels)},
            ) from None

    def open_to(self, principal: Principal) -> tuple[Channel, ...]:
        """The channels that a key may know of, in the catalogue's order."""
        return tuple(c for c in self._channels.values() if c.reached_by(principal))


CHANNELS = Catalogue(ENTRIES)
"""The built-in channels: what a service has by default. Only `create_app`'s
default, documentation and tests read it: what runs is given its catalogue."""


def nearest(word: str, words: Any) -> str:
    """' Did you mean 'x'?' for a message, or nothing."""
    close = difflib.get_close_matches(word.lower(), list(words), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""
