"""What the fan-out's tests stand on: a clock that obeys, a sink that can stall, a journal that can
trim and lag, small independent parsers for both transports, and the truth that answers are held
against.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
from hypothesis import strategies as st

from telecast.channels.catalogue import CHANNELS
from telecast.errors import TelecastError
from telecast.model import Entry, Event, Floor, Page, Row
from telecast.protocol.messages import event_of
from telecast.tape.selection import Selection

EPOCH = "abcd"
NAMES = ("trader-status", "positions", "risk-alerts", "market-data")
"""The keyed channels that the rows here are of."""

# --- a clock that obeys


class _Instant(selectors.SelectSelector):
    """Waits for nothing: what would be a wait moves the loop's clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise AssertionError("the loop would wait for ever")
        self.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop, and the fan-out's Scheduler, whose time passes only where a test says so."""

    def __init__(self) -> None:
        self._instant = _Instant()
        super().__init__(self._instant)
        self._faults: list[dict[str, Any]] = []
        self.set_exception_handler(lambda loop, context: self._faults.append(context))

    def time(self) -> float:
        return self._instant.now

    def spend(self, seconds: float) -> None:
        """Let time pass within a callback, as work does; or freeze the process between two."""
        self._instant.now += seconds

    def run_for(self, seconds: float) -> None:
        """Run what becomes due within this time."""
        self.call_later(seconds, self.stop)
        self.run_forever()
        self.raise_faults()

    def turn(self) -> None:
        """Run what is ready now, once."""
        self.call_soon(self.stop)
        self.run_forever()
        self.raise_faults()

    def fail(self, fault: Exception) -> None:
        """Fail the test from within code that must not be disturbed."""
        self._faults.append({"exception": fault})

    def raise_faults(self) -> None:
        """What a callback or a task raised, and nobody caught, fails the test."""
        for context in self._faults:
            raise context.get("exception") or AssertionError(context["message"])


# --- a sink that can stall


class FakeSink:
    """A buffer, and a kernel behind it that accepts bytes as a test says.

    While `open` the kernel takes everything at once. `watch` sees each write, `cost` is how long
    a write holds the loop.
    """

    def __init__(
        self,
        loop: VirtualLoop,
        *,
        high: int = 1_000,
        low: int = 300,
        cost: float = 0.0,
        watch: Callable[[bytes], object] = lambda data: None,
    ) -> None:
        self.open = True
        self.written = bytearray()
        self.accepted = 0
        self.writes: list[tuple[float, int]] = []
        self.fault: TelecastError | None = None
        self.high, self.low, self.cost = high, low, cost
        self._loop = loop
        self._watch = watch
        self._waiting: list[Callable[[], None]] = []

    def write(self, data: bytes) -> bool:
        assert data, "a write of nothing costs a system call"
        self.writes.append((self._loop.time(), len(data)))
        try:
            self._watch(data)
        except AssertionError as fault:
            self._loop.fail(fault)
        self.written += data
        if self.cost:
            self._loop.spend(self.cost)
        if self.open:
            self.accepted = len(self.written)
        return self.buffered() < self.high

    def when_drained(self, callback: Callable[[], None]) -> None:
        self._waiting.append(callback)
        self._tell()

    def buffered(self) -> int:
        return len(self.written) - self.accepted

    def acknowledged(self) -> int | None:
        return self.accepted

    def close(self, fault: TelecastError) -> None:
        self.fault = fault

    def stall(self) -> None:
        self.open = False

    def accept(self, size: int) -> None:
        """The kernel takes so many bytes more."""
        self.accepted = min(len(self.written), self.accepted + size)
        self._tell()

    def drain(self) -> None:
        """The peer reads again."""
        self.open = True
        self.accept(self.buffered())

    def _tell(self) -> None:
        if self.buffered() <= self.low:
            waiting, self._waiting = self._waiting, []
            for callback in waiting:
                self._loop.call_soon(callback)

    @property
    def received(self) -> bytes:
        return bytes(self.written[: self.accepted])


# --- what came through a transport, read by parsers of our own


@dataclass(frozen=True, slots=True)
class ServerMessage:
    """One message as a client sees it; `id` only at SSE, `end` the offset after its last byte."""

    body: dict[str, Any]
    json: bytes
    id: str | None
    end: int

    @property
    def type(self) -> str:
        kind: str = self.body["type"]
        return kind


def ws_frames(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """(opcode, payload, end) of each whole server frame (RFC 6455 §5.2)."""
    at = 0
    while len(data) - at >= 2:
        first, size = data[at], data[at + 1]
        assert first & 0xF0 == 0x80, "final, and no reserved bits"
        assert size < 128, "servers don't mask"
        start = at + 2
        if size >= 126:
            width = 2 if size == 126 else 8
            size = int.from_bytes(data[start : start + width], "big")
            start += width
        if len(data) < start + size:
            return
        at = start + size
        yield first & 0x0F, data[start:at], at


def dechunked(data: bytes) -> bytes:
    """The body of what there is of a chunked stream (RFC 9112 §7.1)."""
    body, at = bytearray(), 0
    while (line := data.find(b"\r\n", at)) >= 0:
        size = int(data[at:line], 16)
        body += data[line + 2 : line + 2 + size]
        at = line + 2 + size + 2
        assert data[at - 2 : at] in (b"\r\n", b"\r", b""), "a chunk ends with CRLF"
    return bytes(body)


def sse_events(data: bytes) -> Iterator[tuple[str, str, str | None]]:
    """(event, data, id) as WHATWG HTML §9.2.6 dispatches them; lines end as §9.2.5 says."""
    text = data.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    event, lines, last_id = "message", list[str](), None
    for line in text.split("\n")[:-1]:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if lines:
                yield event, "\n".join(lines), last_id
            event, lines, last_id = "message", [], None
        elif name == "event":
            event = value
        elif name == "data":
            lines.append(value)
        elif name == "id" and "\0" not in value:
            last_id = value


def messages_in(transport: str, data: bytes) -> list[ServerMessage]:
    """The messages in bytes of a transport; of an SSE stream only whole writes have their `end`."""
    if transport == "ws":
        return [
            ServerMessage(orjson.loads(payload), payload, None, end)
            for opcode, payload, end in ws_frames(data)
            if opcode == 1
        ]
    found = []
    for event, text, position in sse_events(dechunked(data)):
        body = orjson.loads(text)
        kind = {"error": "fault"}.get(body["type"], body["type"])
        assert event == (body["channel"] if kind == "event" else kind)
        found.append(ServerMessage(body, text.encode(), position, len(data)))
    return found


# --- the truth


@dataclass(slots=True)
class Ledger:
    """Everything that was ever committed, and how a row's changes become entries."""

    history: list[Entry] = field(default_factory=list)
    rows: dict[tuple[str, str], Row] = field(default_factory=dict)
    seq: int = 0

    def upsert(self, name: str, row: Row, *, skip: int = 1) -> list[Entry]:
        """What the ingress derives: a row that moves between filters is deleted first."""
        channel = CHANNELS[name]
        key = channel.key(row)
        before = self.rows.get((name, key))
        if channel.gone(row):
            return self.delete(name, key, row, skip=skip)
        entries = []
        if before is not None and channel.fields_of(before) != channel.fields_of(row):
            entries.append(self._commit(name, key, "delete", True, before, skip))
            before = None
        pinned = channel.pinned(before, row, "upsert")
        entries.append(self._commit(name, key, "upsert", pinned, row, skip))
        self.rows[name, key] = row
        return entries

    def delete(self, name: str, key: str, row: Row | None = None, *, skip: int = 1) -> list[Entry]:
        before = self.rows.pop((name, key), None)
        if before is None:
            return []
        pinned = CHANNELS[name].pinned(before, before, "delete")
        return [self._commit(name, key, "delete", pinned, row or before, skip)]

    def _commit(self, name: str, key: str, op: Any, pinned: bool, row: Row, skip: int) -> Entry:
        self.seq += skip
        entry = Entry(self.seq, 1_000 + self.seq, name, key, op, pinned, orjson.dumps(row))
        self.history.append(entry)
        return entry

    def state(self, selection: Selection) -> dict[tuple[str, str], Row]:
        """The rows that a client of this selection must hold."""
        return {
            (name, key): row
            for (name, key), row in self.rows.items()
            if wanted(selection, name, row)
        }


def wanted(selection: Selection, name: str, row: Row) -> bool:
    """What the wire contract's section 2 says of filters, said again."""
    if name not in selection.channels:
        return False
    fields = CHANNELS[name].fields_of(row)
    return all(
        fields[part] is None or fields[part] in values for part, values in selection.filter(name)
    )


def event_of_entry(entry: Entry) -> Event:
    return event_of(entry, CHANNELS[entry.channel].fields_of(orjson.loads(entry.data)))


def folded(
    reported: Iterable[Entry | Event], state: dict[tuple[str, str], Row] | None = None
) -> dict[tuple[str, str], Row]:
    """What a client holds after these, on top of what it held."""
    rows = dict(state or {})
    for one in reported:
        if one.op == "delete":
            rows.pop((one.channel, one.key), None)
        else:
            rows[one.channel, one.key] = (
                orjson.loads(one.data) if isinstance(one, Entry) else one.row
            )
    return rows


# --- a journal that can trim and lag


class FakeJournal:
    """Answers `read` at once, or, while `held`, when it is let go; trims where a test says."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.entries: list[Entry] = []
        self.head = 0
        self.floors = {name: Floor() for name in NAMES}
        self.gone: set[int] = set()
        self.held = False
        self.fault: TelecastError | None = None
        self.reads = 0
        self.reading = 0
        self.most_reading = 0
        self.before_answer: Callable[[], None] = lambda: None
        self._through = dict.fromkeys(NAMES, 0)
        self._loop = loop
        self._waiting: list[asyncio.Future[None]] = []

    def commit(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self.entries.append(entry)
            self.head = entry.seq

    def trim(self, name: str, through: int) -> None:
        """Drop everything of a channel up to a seq that is no live row's newest entry."""
        through = self._through[name] = max(self._through[name], through)
        newest = {entry.key: entry for entry in self.entries if entry.channel == name}
        floor = self.floors[name]
        kept = []
        for entry in self.entries:
            live = newest.get(entry.key) is entry and entry.op == "upsert"
            if entry.channel != name or entry.seq > through or live:
                kept.append(entry)
                continue
            self.gone.add(entry.seq)
            lasting = entry.pinned or entry.op == "delete"
            floor = Floor(
                max(floor.whole_from, entry.seq),
                max(floor.compact_from, entry.seq) if lasting else floor.compact_from,
            )
        self.entries, self.floors[name] = kept, floor

    def lasting(self) -> set[int]:
        """Seqs that are there and will be after the next trim: of what was trimmed only rows that
        live."""
        newest = {(entry.channel, entry.key): entry.seq for entry in self.entries}
        return {
            entry.seq
            for entry in self.entries
            if entry.seq > self._through[entry.channel]
            or newest[entry.channel, entry.key] == entry.seq
        }

    def let_go(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def read(self, channels: Collection[str], after: int, limit: int) -> Page:
        self.reads += 1
        self.reading += 1
        self.most_reading = max(self.most_reading, self.reading)
        try:
            if self.held:
                future = self._loop.create_future()
                self._waiting.append(future)
                await future
            if self.fault is not None:
                raise self.fault
            names = tuple(channels)
            found = [e for e in self.entries if e.seq > after and e.channel in names][:limit]
            more = len(found) == limit
            upto = found[-1].seq if more else max(after, self.head)
            page = Page(tuple(found), upto, more, {name: self.floors[name] for name in names})
            self.before_answer()
            return page
        finally:
            self.reading -= 1


# --- what hypothesis draws from


@dataclass(frozen=True, slots=True)
class Change:
    """A change of one row in a few small numbers; `kind` 0 deletes, the rest upserts."""

    channel: int
    key: int
    group: int
    status: int
    kind: int
    skip: int


def _changes(channels: st.SearchStrategy[int]) -> st.SearchStrategy[Change]:
    return st.builds(
        Change,
        channel=channels,
        key=st.integers(0, 2),
        group=st.sampled_from((0, 0, 0, 1, 2)),
        status=st.sampled_from((0, 0, 0, 1)),
        kind=st.integers(0, 5),
        skip=st.sampled_from((1, 1, 1, 7)),
    )


CHANGES = _changes(st.integers(0, 3))


def histories(most: int = 80) -> st.SearchStrategy[list[Change]]:
    """Changes of all channels, or, so that they go deep, of one."""
    one = st.integers(0, 3).flatmap(
        lambda channel: st.lists(_changes(st.just(channel)), min_size=1, max_size=most // 2)
    )
    return st.one_of(st.lists(CHANGES, min_size=1, max_size=most), one)


_GROUPS = ("one", "two", None)


def row_of(change: Change, number: int) -> Row:
    """A row that its channel knows how to key, filter, pin; `number` makes it one of its kind."""
    key, group, status = change.key, _GROUPS[change.group], change.status
    common: Row = {"exchange": group, "symbol": "XAU", "number": number}
    match NAMES[change.channel]:
        case "trader-status":
            state = ("RUNNING", "PAUSED")[status]
            return common | {"id": f"t{key}", "status": state, "reason": None}
        case "positions":
            trader = group or "one"
            return common | {"id": f"p{key}", "traderId": trader, "status": "OPEN"}
        case "risk-alerts":
            return {
                "id": f"a{key}",
                "traderId": group,
                "severity": ("WARNING", "CRITICAL")[status],
                "status": "ACTIVE",
                "number": number,
            }
        case _:
            exchange = (None, "one", "two")[key % 3]
            return {"symbol": f"S{key}", "exchange": exchange, "number": number}


def commit(ledger: Ledger, changes: Iterable[Change]) -> list[Entry]:
    """Bring the changes into the ledger; what it made of them, in order."""
    entries: list[Entry] = []
    for change in changes:
        name, row = NAMES[change.channel], row_of(change, ledger.seq)
        if change.kind == 0:
            entries += ledger.delete(name, CHANNELS[name].key(row), skip=change.skip)
        else:
            entries += ledger.upsert(name, row, skip=change.skip)
    return entries


_VALUES = st.frozensets(st.sampled_from(("one", "two", "t0", "S0", "XAU", "CRITICAL")), max_size=2)


@st.composite
def selections(draw: st.DrawFn, *, least: int = 1) -> Selection:
    """Some channels, each with no filter, one or more, some with no values at all."""
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=least))
    return Selection(
        {
            name: tuple(
                sorted(
                    draw(
                        st.one_of(
                            st.just({}),
                            st.dictionaries(
                                st.sampled_from(sorted(CHANNELS[name].filters)), _VALUES, max_size=2
                            ),
                        )
                    ).items()
                )
            )
            for name in names
        }
    )
