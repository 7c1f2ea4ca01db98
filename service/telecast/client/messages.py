"""What the server sends, and where it is safe to go on. Pure; wire contract sections 3 and 4."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from telecast.errors import PositionMalformed
from telecast.model import Position


class Garbled(ValueError):
    """What came is no message of the contract."""


@dataclass(frozen=True, slots=True)
class ServerMessage:
    """One message of the server, from either transport.

    `raw` is its JSON as received. `position` is where a client that has seen it may resume,
    None where it proves none: an event without one is a row of a snapshot.
    """

    type: str
    body: dict[str, Any]
    raw: bytes
    position: str | None

    @property
    def is_row(self) -> bool:
        """Whether this event is part of a snapshot that is not complete yet."""
        return self.type == "event" and self.position is None


class Cursor:
    """The last place from which resuming loses nothing and repeats nothing.

    At the SSE transport that is the last `id:`. A WebSocket carries no ids: there it is the
    position of the last event, heartbeat or `live` that does not stand between `snapshot` and the
    `live` or `resume` that ends it.
    """

    def __init__(self, since: str | None) -> None:
        """`since`: a position, `earliest` or `acked`; None asks for a snapshot."""
        self._since = since
        self._proven: str | None = None
        self._epoch: str | None = None
        self._in_snapshot = False
        self._awaited: set[str] = set()
        self._refining = False
        self._unanswered = 0
        """Changes of filters that the server has not answered."""

    @property
    def proven(self) -> str | None:
        """The last safe position that the server sent, None before the first."""
        return self._proven

    @property
    def refining(self) -> bool:
        """Whether a change of filters is under way on this connection."""
        return self._refining

    @property
    def start(self) -> str | None:
        """What the next connection is to ask for."""
        return self._proven or self._since

    def connected(self) -> None:
        """A new connection: what the last one left unfinished counts for nothing."""
        self._in_snapshot = False
        self._epoch = None
        self._awaited.clear()
        self._refining, self._unanswered = False, 0

    def expect(self, channels: Iterable[str]) -> None:
        """Channels are being added to the selection: no position covers them yet.

        None is proven until their snapshots are complete, and what was is forgotten: whoever
        came back with it would never see their rows.
        """
        self._proven = self._since = None
        self._awaited |= set(channels)

    def refine(self, *, asked: bool) -> None:
        """Filter values come and go: no position proves the new filter before its `live`.

        `asked`: the server is asked on this connection, and `answered` will follow.
        """
        self._proven = self._since = None
        if asked:
            self._refining = True
            self._unanswered += 1

    def answered(self) -> None:
        """A change of filters is under way: the next `live` ends the last of them."""
        self._unanswered -= 1

    def refused(self, channels: Iterable[str]) -> None:
        """These are not to come after all."""
        self._awaited -= set(channels)

    def take(self, raw: bytes, event_id: str | None, *, ids: bool) -> ServerMessage:
        """Read one message. `ids`: the transport has ids, and this message's is `event_id`, if any.

        Raises Garbled.
        """
        try:
            body = orjson.loads(raw)
            kind = body["type"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            raise Garbled(f"no message: {raw[:80]!r}") from None
        if not isinstance(kind, str):
            raise Garbled(f"no type: {raw[:80]!r}")
        try:
            position = self._by_id(event_id) if ids else self._by_body(kind, body)
        except (PositionMalformed, KeyError, TypeError):
            raise Garbled(f"no position: {raw[:80]!r}") from None
        if kind in ("snapshot", "resume") and self._awaited:
            self._awaited -= set(body.get("channels") or ())
        if kind == "live" and not self._unanswered:
            self._refining = False
        if self._awaited or self._refining:
            position = None
        if kind == "snapshot":
            # The rows before it are forgotten, and with them what a position would go on from.
            self._proven = self._since = None
        if position is not None:
            self._proven = position
        return ServerMessage(kind, body, raw, position)

    @staticmethod
    def _by_id(event_id: str | None) -> str | None:
        return str(Position.parse(event_id)) if event_id else None

    def _by_body(self, kind: str, body: dict[str, Any]) -> str | None:
        match kind:
            case "welcome":
                self._epoch = Position.parse(body["head"]).epoch
            case "snapshot":
                self._in_snapshot = True
            case "resume":
                self._in_snapshot = False
            case "live":
                self._in_snapshot = False
                return str(Position.parse(body["position"]))
            case "heartbeat" if not self._in_snapshot:
                return str(Position.parse(body["position"]))
            case "event" if not self._in_snapshot and self._epoch is not None:
                return str(Position.parse(f"{self._epoch}:{body['seq']}"))
            case _:
                pass
        return None
