"""Programs of users, on each SDK and at each transport, whose lines break at random bytes.

Each follows every channel from the beginning, has a view of each and one whose filter changes all
the time, and publishes; each of the three over a line of its own. In the end it must have had the
journal's history, byte for byte and each event once; its views must be the rows that there are; and
what it published must be there once.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Literal, Protocol

import orjson

from telecast import client
from telecast.client import Client, Op
from telecast.web.page.files import FOLDERS
from tests.support.checking.cutting import Cutter, cutter
from tests.support.checking.history import Change, History, Publish, folded, listener_flaws
from tests.support.checking.judge import check
from tests.support.checking.traffic import CHANNELS, PINS, Desk, Ledger, kept, working
from tests.support.payloads import Payload, alert, position, price, trader
from tests.support.service.process import Service
from tests.support.service.rest import publish

END = "the end"
LAST: dict[str, tuple[str, Payload]] = {
    "trader-status": (END, trader(END)),
    "positions": (END, position(END)),
    "market-data": ("THE:END", price("END", "THE")),
    "risk-alerts": (END, alert(END, None)),
}
"""Channel to the key and the payload of its last row, in the order in which they are published."""
REFINED = ("t1", "t2")
PAUSE_SECONDS = 0.3
"""How long cuts are waited for before more is published."""
SOON_SECONDS = 0.05
CUTS_A_KILL = 10
PUBLISHES_A_TURN = 3
MODULE = (Path(FOLDERS["client"]) / "telecast.js").as_uri()
PROGRAM = Path(__file__).with_name("program.mjs")
Transport = Literal["ws", "sse"]


class Lines:
    """Three lines of one program."""

    def __init__(self, follow: Cutter, view: Cutter, publish: Cutter) -> None:
        self.follow = follow
        self.view = view
        self.publish = publish

    def calm(self) -> None:
        for line in (self.follow, self.view, self.publish):
            line.calm = True


class Program(Protocol):
    """One program: what it had, once `run` has returned."""

    name: str
    lines: Lines
    heard: list[bytes]
    states: Counter[str]
    rows: dict[tuple[str, str], Any]
    refined: dict[tuple[str, str], Any]
    """The positions of REFINED, by a view whose filter was others' before."""
    published: asyncio.Queue[tuple[str, bool]]
    """Position of each publish, in their order, and whether it was there already."""

    async def run(self) -> None: ...

    def publish(self, channel: str, payload: Payload) -> None: ...

    def no_more(self) -> None: ...


class _Program:
    def __init__(self, name: str, transport: Transport, lines: Lines, key: str) -> None:
        self.name = name
        self.lines = lines
        self.heard: list[bytes] = []
        self.states: Counter[str] = Counter()
        self.rows: dict[tuple[str, str], Any] = {}
        self.refined: dict[tuple[str, str], Any] = {}
        self.published: asyncio.Queue[tuple[str, bool]] = asyncio.Queue()
        self._transport = transport
        self._key = key


async def _soon(seconds: float) -> None:
    await asyncio.sleep(SOON_SECONDS)


class InPython(_Program):
    def __init__(self, transport: Transport, lines: Lines, key: str) -> None:
        super().__init__(f"telecast.client, {transport}", transport, lines, key)
        self._waiting: asyncio.Queue[tuple[str, Payload] | None] = asyncio.Queue()
        self._ended = asyncio.Event()

    def _open(self, line: Cutter) -> Client:
        """It comes back sooner than the service asks for."""
        telecast = Client(line.url, key=self._key, transport=self._transport)
        telecast._pause = _soon
        return telecast

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow())
            group.create_task(self._publish())
            async with self._open(self.lines.view) as telecast, asyncio.TaskGroup() as views:
                for channel in CHANNELS:
                    views.create_task(self._view(telecast, channel))
                views.create_task(self._refined(telecast))

    async def _follow(self) -> None:
        async with self._open(self.lines.follow) as telecast:
            async for change in telecast.follow(*CHANNELS, since="earliest"):
                if change.op in (Op.RESET, Op.GAP):
                    self.states["snapshot"] += 1
                    continue
                self.heard.append(_json(change))
                if change.key == END and change.channel == "risk-alerts":
                    return

    async def _view(self, telecast: Client, channel: str) -> None:
        view = await telecast.view(channel)
        async for update in view.changed:
            if update.state == "live" and LAST[channel][0] in view:
                break
        self.rows |= {(channel, key): row for key, row in view.items()}
        if channel == "positions":
            self._ended.set()

    async def _refined(self, telecast: Client) -> None:
        view = await telecast.view("positions", traderId=["t0", "t1"])
        ended = False
        while not ended:
            ended = self._ended.is_set()
            await view.refine(add={"traderId": "t2"}, remove={"traderId": "t0"})
            if not ended:
                await view.refine(add={"traderId": "t0"}, remove={"traderId": "t2"})
                await _soon(0)
        async for update in view.changed:
            if update.state == "live" and END in view:
                break
        self.refined = {("positions", key): row for key, row in view.items()}

    async def _publish(self) -> None:
        async with self._open(self.lines.publish) as telecast:
            while (said := await self._waiting.get()) is not None:
                receipt = await telecast.publish(*said)
                await self.published.put((receipt["position"], bool(receipt.get("duplicate"))))

    def publish(self, channel: str, payload: Payload) -> None:
        self._waiting.put_nowait((channel, payload))

    def no_more(self) -> None:
        self._waiting.put_nowait(None)


def _json(change: client.Change) -> bytes:
    """The event that a change was, as the service writes it."""
    return orjson.dumps(
        {
            "type": "event",
            "channel": change.channel,
            "seq": change.seq,
            "op": change.op,
            "key": change.key,
            "data": change.row,
            "timestamp": change.timestamp,
        }
    )


class InNode(_Program):
    def __init__(self, node: str, transport: Transport, lines: Lines, key: str) -> None:
        super().__init__(f"telecast.js, {transport}", transport, lines, key)
        self._node = node
        self._waiting: list[bytes] = []
        self._stdin: asyncio.StreamWriter | None = None

    async def run(self) -> None:
        last = {channel: key for channel, (key, _) in LAST.items()}
        env = {**os.environ, "TELECAST_KEY": self._key, "LAST": orjson.dumps(last).decode()}
        transport = "websocket" if self._transport == "ws" else "sse"
        addresses = (self.lines.follow.url, self.lines.view.url, self.lines.publish.url)
        process = await asyncio.create_subprocess_exec(
            *(self._node, "--no-warnings", "--experimental-websocket", str(PROGRAM)),
            *(MODULE, transport, *addresses),
            env=env,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 20,
        )
        assert process.stdout is not None
        assert process.stdin is not None
        self._stdin = process.stdin
        for line in self._waiting:
            self._stdin.write(line)
        try:
            async for line in process.stdout:
                self._take(*orjson.loads(line))
            assert await process.wait() == 0, f"{self.name} failed"
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    def _take(self, kind: str, *said: Any) -> None:
        match kind:
            case "event":
                self.heard.append(said[0].encode())
            case "state":
                self.states[said[0]] += 1
            case "row":
                channel, key, row = said
                self.rows[channel, key] = row
            case "refined":
                key, row = said
                self.refined["positions", key] = row
            case "published":
                position, duplicate = said
                self.published.put_nowait((position, duplicate))

    def publish(self, channel: str, payload: Payload) -> None:
        line = orjson.dumps([channel, payload]) + b"\n"
        if self._stdin is None:
            self._waiting.append(line)
        else:
            self._stdin.write(line)

    def no_more(self) -> None:
        assert self._stdin is not None
        self._stdin.close()


class Publishing:
    """What one program is given to publish, and what became of it."""

    def __init__(self, program: Program, desk: Desk, ledger: Ledger) -> None:
        self._program = program
        self._desk = desk
        self._ledger = ledger
        self._waiting: deque[Publish] = deque()
        self.again = 0

    def give(self) -> None:
        channel, (payload,), changes = self._desk.one()
        self._waiting.append(self._ledger.sent(self._desk.name, changes))
        self._program.publish(channel, payload)

    async def take(self) -> None:
        """All that was given."""
        while self._waiting:
            position, duplicate = await self._program.published.get()
            self.again += duplicate
            made = self._waiting.popleft()
            self._ledger.reported(made, position, duplicate=duplicate, again=duplicate)


@asynccontextmanager
async def lines(own: Service, chance: random.Random) -> AsyncIterator[Lines]:
    def few(chance: random.Random) -> int:
        return chance.randint(1, 6_000)

    async with (
        cutter(own.url, chance) as follow,
        cutter(own.url, chance) as view,
        cutter(own.url, chance, few) as publishing,
    ):
        yield Lines(follow, view, publishing)


async def torment(
    folder: Path,
    cuts: int,
    *,
    node: str | None,
    transports: Sequence[Transport] = ("ws", "sse"),
    in_node: Sequence[Transport] = ("ws", "sse"),
    seed: int | None = None,
) -> dict[str, object]:
    """Every program, until the stream that it follows was cut so often. Figures by name."""
    record = History(seed=random.randrange(2**32) if seed is None else seed, pins=PINS)
    chance = random.Random(str(record.seed))
    own = Service(folder)
    try:
        await own.start()
        async with AsyncExitStack() as stack:
            programs: list[Program] = []
            for transport in transports:
                through = await stack.enter_async_context(lines(own, chance))
                programs.append(InPython(transport, through, own.key))
            for transport in in_node if node is not None else ():
                through = await stack.enter_async_context(lines(own, chance))
                assert node is not None
                programs.append(InNode(node, transport, through, own.key))
            figures = await _run(own, record, chance, programs, cuts)
        await own.stop()
    finally:
        await own.end()
        print(f"seed {record.seed}", file=sys.stderr)
    return figures


async def _run(
    own: Service,
    record: History,
    chance: random.Random,
    programs: Sequence[Program],
    cuts: int,
) -> dict[str, object]:
    ledger = Ledger(record)

    def desk(name: str) -> Desk:
        return Desk(name, random.Random(chance.random()))

    publishers = [Publishing(each, desk(each.name), ledger) for each in programs]
    direct, kills = desk("direct"), 0
    async with working(*(each.run() for each in programs)):
        for number in range(1, cuts + 1):
            for each in publishers:
                for _ in range(PUBLISHES_A_TURN):
                    each.give()
            await _burst(own, direct, ledger, chance)
            for line in (each.lines.follow for each in programs):
                while line.cuts < number:
                    line.cut.clear()
                    await _burst(own, direct, ledger, chance)
                    with suppress(TimeoutError):
                        async with asyncio.timeout(PAUSE_SECONDS):
                            await line.cut.wait()
            if number % CUTS_A_KILL == CUTS_A_KILL // 2:
                own.kill()
                assert await own.gone() == -signal.SIGKILL
                kills += 1
                await own.start()
            for each in publishers:
                await each.take()
        for each in programs:
            each.lines.calm()
            each.no_more()
        for channel, (key, payload) in LAST.items():
            changes = [Change(channel, "upsert", key, payload)]
            await _publish(own, ledger, "the end", channel, [payload], changes)
    epoch, truth = await kept(own)
    for each in programs:
        flaws = listener_flaws(truth.events, each.heard)
        assert not flaws, f"{each.name}, seed {record.seed}: {len(flaws)}, first {flaws[0]}"
        assert not each.states["snapshot"] + each.states["gap"], (each.name, each.states)
        rows = folded(truth.events)
        some = {
            place: row
            for place, row in rows.items()
            if place[0] == "positions" and row["traderId"] in REFINED
        }
        for there, held in ((rows, each.rows), (some, each.refined)):
            differ = [key for key in there.keys() | held.keys() if there.get(key) != held.get(key)]
            assert not differ, f"{each.name}, seed {record.seed}: rows differ: {differ[:9]}"
    figures: dict[str, object] = {"events": len(truth.events), "kills": kills}
    for each, publishing in zip(programs, publishers, strict=True):
        figures[each.name] = {
            "followed": dict(each.lines.follow.where),
            "viewed": dict(each.lines.view.where),
            "published": cuts * PUBLISHES_A_TURN,
            "repeated and there already": publishing.again,
        }
    record.kept[epoch] = truth
    check(record)
    return figures


async def _burst(own: Service, desk: Desk, ledger: Ledger, chance: random.Random) -> None:
    """Some tens of events, from beside the lines."""
    symbols = [f"S{number}" for number in chance.sample(range(40), chance.randint(5, 40))]
    for channel, payloads, changes in (desk.prices(symbols), desk.positions(), desk.one()):
        await _publish(own, ledger, desk.name, channel, payloads, changes)


async def _publish(
    own: Service,
    ledger: Ledger,
    who: str,
    channel: str,
    payloads: Sequence[Payload],
    changes: Sequence[Change],
) -> None:
    made = ledger.sent(who, changes)
    receipt = await publish(own, channel, *payloads)
    ledger.reported(made, receipt["position"], duplicate=False, again=False)
