"""One connection: what the server writes to it is judged at once, what the peer reads is believed.

`Person` is who connects, again and again, over either transport, with the last position that was
seen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from telecast.model import Position, Row
from telecast.tape.selection import Selection
from tests.simulation.cable import Cable
from tests.simulation.laws import Laws, ServerMessage
from tests.support.fakes import sse_events, ws_frames
from tests.support.sockets.raw import _masked as masked
from tests.support.sockets.raw import request

if TYPE_CHECKING:
    from tests.simulation.world import World

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


@dataclass(slots=True)
class Held:
    """What somebody holds who has seen a position. `whole`: channels whose rows are all there."""

    position: str
    selection: Selection
    rows: dict[tuple[str, str], Row]
    whole: frozenset[str]


@dataclass(slots=True)
class Person:
    """A program that wants to be sent things: what it asks for stays the same, its transports
    don't."""

    name: str
    key_id: str
    channels: tuple[str, ...]
    fields: Mapping[str, tuple[str, ...]]
    delivery: str
    max_rate: str | None
    heartbeat: int
    client_id: str | None
    held: deque[Held] = field(default_factory=lambda: deque(maxlen=4))
    commanded: bool = False
    """It changed what it asks for with a command: then the positions of a line are not of its wish
    alone."""
    line: Line | None = None


class Line:
    def __init__(
        self,
        world: World,
        person: Person,
        transport: str,
        cable: Cable,
        query: Mapping[str, Any],
        *,
        held: Held | None,
        last_event_id: str | None,
        earliest: bool,
        hasty: bool,
    ) -> None:
        """`held` is what it comes back with; `earliest`: it asks for all that there is; `hasty`:
        its frames follow at once upon the request."""
        self.query = query
        self.transport, self.person, self.cable = transport, person, cable
        self.laws = Laws(world, transport, person.delivery, person.key_id)
        self.connection_id: str | None = None
        self.status: int | None = None
        self.code: int | None = None
        """Of the close frame."""
        self.over = False
        self.misbehaved = False
        self.deaf = False
        """It answers no pings."""
        self.asked_at = world.loop.time()
        self.held = held
        self.rows: dict[tuple[str, str], Row] = dict(held.rows) if held is not None else {}
        self.whole: set[str] = set()
        self._world = world
        self._earliest = earliest
        self._head = bytearray()
        self._pending = bytearray()
        self._text = bytearray()
        self._chunk = 0
        self._bytes = 0
        """Written so far, that are parsed."""
        self._body = 0
        """Bytes of the answer's head."""
        self._messages: deque[ServerMessage] = deque()
        self._pings: deque[tuple[int, int, bytes]] = deque()
        self._in_snapshot = False
        self._sent = 0
        self._subscribed: dict[str, Sequence[str]] = {}
        """reqId of a subscribe to its channels."""
        self._begun: set[str] = set()
        """Channels of which it was acknowledged that they begin anew, and no snapshot came yet."""
        cable.on_bytes, cable.on_taken, cable.on_end = self._written, self._read_to, self._end
        self._unsent: list[bytes] | None = None if hasty else []
        """Frames that wait for the upgrade to be answered."""
        cable.send(request(transport, world.secrets[person.key_id], query, last_event_id))

    # --- what the server writes, when it writes it

    def _written(self, data: bytes) -> None:
        if self.status is None:
            self._head += data
            head, found, rest = bytes(self._head).partition(b"\r\n\r\n")
            if not found:
                return
            self.status = int(head.split(b" ", 2)[1])
            self._bytes = self._body = len(head) + 4
            data = rest
        if self.status not in (101, 200):
            return
        self._pending += data
        if self.transport == "ws":
            self._frames()
        else:
            self._chunks()

    def _frames(self) -> None:
        last = 0
        for opcode, payload, end in ws_frames(bytes(self._pending)):
            assert self.code is None, "nothing comes after a close frame (RFC 6455 §5.5.1)"
            where, last = self._bytes + end, end
            if opcode == TEXT:
                self._received(payload, None, where)
            elif opcode == CLOSE:
                self.code = int.from_bytes(payload[:2], "big")
                self._pings.append((where, CLOSE, payload))
            elif opcode == PING:
                self._pings.append((where, PONG, payload))
            else:
                assert opcode == PONG
        self._bytes += last
        del self._pending[:last]

    def _chunks(self) -> None:
        pending = self._pending
        while (line := pending.find(b"\r\n")) >= 0:
            size = int(pending[:line], 16)
            whole = line + 2 + size + 2
            if len(pending) < whole:
                return
            assert pending[whole - 2 : whole] == b"\r\n"
            self._text += pending[line + 2 : whole - 2]
            del pending[:whole]
            self._bytes += whole
            end = self._text.rfind(b"\n\n") + 2
            text = bytes(self._text[:end])
            del self._text[:end]
            for name, data, position in sse_events(text):
                body = orjson.loads(data)
                kind = {"error": "fault", "event": body.get("channel")}.get(
                    body["type"], body["type"]
                )
                assert name == kind
                self._received(data.encode(), position, self._bytes)

    def _received(self, json: bytes, sent_id: str | None, end: int) -> None:
        body = orjson.loads(json)
        if body["type"] == "welcome":
            self.connection_id = body["connectionId"]
        match body["type"]:
            case "ack" if body["action"] == "ack":
                self._world.answered(self, Position.parse(body["position"]))
            case "ack" if body["reqId"] in self._subscribed:
                self._begun |= set(self._subscribed[body["reqId"]]) & set(body["channels"])
            case "snapshot":
                self._begun -= set(body["channels"])
            case "live":
                begun = self._begun & set(self.laws.selection.channels)
                assert not begun, f"no snapshot of {begun}, which were subscribed to again"
                self._begun.clear()
        self._world.loop.note(self.cable.number, json)
        self._messages.append(self.laws.take_in(body, json, sent_id, end))

    # --- what the peer's program reads, as it comes

    def _read_to(self, upto: int) -> None:
        if self._unsent is not None and self.status == 101 and upto >= self._body:
            unsent, self._unsent = self._unsent, None
            for frame in unsent:
                self.cable.send(frame)
        while self._messages and self._messages[0].end <= upto:
            self._read(self._messages.popleft())
        while self._pings and self._pings[0][0] <= upto:
            _, opcode, payload = self._pings.popleft()
            if opcode == CLOSE or not self.deaf:
                self.cable.send(masked(opcode, payload[:2] if opcode == CLOSE else payload))

    def _read(self, reported: ServerMessage) -> None:
        body = reported.body
        proven = (reported.id or None) if self.transport == "sse" else None
        match body["type"]:
            case "snapshot":
                gone = set(body["channels"])
                self.rows = {at: row for at, row in self.rows.items() if at[0] not in gone}
                self.whole |= gone
                self._in_snapshot = True
                if reported.id == "":
                    self.person.held.clear()
            case "resume":
                self._in_snapshot = False
                self._take_up(body["channels"], reported.selection)
            case "live":
                self._in_snapshot = False
                proven = body["position"]
            case "heartbeat":
                proven = body["position"]
            case "event":
                where = body["channel"], body["key"]
                if body["op"] == "delete":
                    self.rows.pop(where, None)
                else:
                    self.rows[where] = body["data"]
                if self.transport == "ws" and not self._in_snapshot:
                    proven = f"{self._world.epoch}:{body['seq']}"
                assert not (reported.row and reported.id), "a row's position proves nothing"
        self.whole &= set(reported.selection.channels)
        if body["type"] == "live":
            self.holds(reported.selection, Position.parse(body["position"]).seq)
        if proven is not None and reported.selection:
            rows = {at: row for at, row in self.rows.items() if at[0] in reported.selection}
            self.person.held.append(Held(proven, reported.selection, rows, frozenset(self.whole)))

    def _take_up(self, names: list[str], selection: Selection) -> None:
        """These channels go on from where it was: it has their rows if it had them then."""
        held = self.held
        if held is None:
            # From the oldest event that there is what is left has all rows; from elsewhere not.
            self.whole |= set(names) if self._earliest else set()
            return
        same = {
            name
            for name in names
            if name in held.selection and held.selection.filter(name) == selection.filter(name)
        }
        assert self.person.commanded or same == set(names), (
            f"{set(names) - same} go on from a position of other rights"
        )
        self.whole |= held.whole & same

    def holds(self, selection: Selection, upto: int) -> None:
        """The rows that a client must hold at a position, no ghost among them."""
        names = [name for name in selection.channels if name in self.whole]
        mine = {where: row for where, row in self.rows.items() if where[0] in names}
        right = self._world.truth.state(selection, names, upto)
        assert mine == right, (
            f"at {upto} it lacks {right.keys() - mine.keys()}, has {mine.keys() - right.keys()} "
            f"too much, and {[at for at in mine.keys() & right if mine[at] != right[at]]} is stale"
        )

    def _end(self, clean: bool) -> None:
        self.over = True

    # --- what the peer does

    def say(self, *, as_ever: bool = False, **body: Any) -> None:
        self._sent += 1
        self.person.commanded |= not as_ever and body["action"] in ("subscribe", "unsubscribe")
        if body["action"] == "subscribe":
            self._subscribed[str(self._sent)] = body["channels"]
        self.frame(TEXT, orjson.dumps({"reqId": str(self._sent), **body}))

    def frame(self, opcode: int, payload: bytes) -> None:
        frame = masked(opcode, payload)
        if self._unsent is None:
            self.cable.send(frame)
        else:
            self._unsent.append(frame)

    def end(self, how: str) -> None:
        match how:
            case "cut":
                self.over = True
                self.cable.cut()
            case "hang up":
                self.cable.hang_up()
            case "vanish":
                self.over = True
                self.cable.vanish()
            case "close":
                self.frame(CLOSE, b"\x03\xe8")
