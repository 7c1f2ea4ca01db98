"""Three NATS servers that replicate, which can be killed, stopped, and parted from each other.

What one server sends to another goes through a relay of ours, one for each direction in which they
connect: a partition holds the bytes back, and nobody is notified.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import nats
import nats.errors
import orjson

from tests.support.service.guard import Guard
from tests.support.service.nats import NatsServer
from tests.support.service.process import HOST, free_port
from tests.support.service.volume import Volume

COUNT = 3
PATIENCE = 120.0
DEAD_PORT = 1
"""Nobody listens there: what servers tell each other of their addresses goes nowhere."""


class Relay:
    """Carries bytes both ways between whoever connects and a port, while it is `whole`."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.whole = asyncio.Event()
        self.whole.set()

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._connected, HOST, 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _connected(self, near: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self.whole.wait()
            far, back = await asyncio.open_connection(HOST, self._target)
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._carry(near, back))
                    both.create_task(self._carry(far, out))
            finally:
                back.close()
        except* OSError:
            pass  # an end is gone: so is the other
        finally:
            out.close()
            self._tasks.discard(task)

    async def _carry(self, near: asyncio.StreamReader, far: asyncio.StreamWriter) -> None:
        while data := await near.read(1 << 16):
            await self.whole.wait()
            far.write(data)
            await far.drain()
        raise ConnectionResetError

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Cluster:
    """`servers[i]` is up unless it was killed; `start(i)` brings it back on its store."""

    def __init__(self, *, volumes: bool = False, guarded: bool = False) -> None:
        """With `volumes` each server has a disk of its own; with `guarded` they ask for more than
        an address."""
        self.folder = Path(tempfile.mkdtemp(prefix="nats-cluster-"))
        self.guard = Guard(self.folder / "guard") if guarded else None
        self.volumes = [
            Volume(self.folder / f"{number}.image", self.folder / str(number))
            for number in range(COUNT if volumes else 0)
        ]
        self.ports = [free_port() for _ in range(COUNT)]
        self._routes = [free_port() for _ in range(COUNT)]
        self._relays: dict[tuple[int, int], tuple[Relay, int]] = {}
        self.servers: list[NatsServer | None] = [None] * COUNT

    @property
    def address(self) -> str:
        return "nats://" + ",".join(f"{HOST}:{port}" for port in self.ports)

    async def begin(self) -> None:
        for near in range(COUNT):
            for far in range(COUNT):
                if near != far:
                    relay = Relay(self._routes[far])
                    self._relays[near, far] = relay, await relay.start()
        await asyncio.gather(*(self.start(number) for number in range(COUNT)))
        await self.ready()

    def _config(self, number: int) -> str:
        routes = ", ".join(
            f'"nats://{HOST}:{self._relays[number, far][1]}"'
            for far in range(COUNT)
            if far != number
        )
        return (
            f"server_name: n{number}\nhttp: {HOST}:-1\n"
            f"cluster {{ name: desk, listen: {HOST}:{self._routes[number]}, routes: [{routes}], "
            f'no_advertise: true, cluster_advertise: "{HOST}:{DEAD_PORT}" }}\n'
            + (self.guard.config if self.guard else "")
        )

    async def start(self, number: int) -> None:
        folder = self.folder / str(number)
        folder.mkdir(exist_ok=True)
        config = self._config(number)
        self.servers[number] = await asyncio.to_thread(
            lambda: NatsServer(config=config, port=self.ports[number], folder=folder)
        )

    def send(self, number: int, sign: int) -> None:
        server = self.servers[number]
        assert server is not None
        server.process.send_signal(sign)

    async def kill(self, number: int, sign: int = signal.SIGKILL) -> None:
        server = self.servers[number]
        assert server is not None
        await asyncio.to_thread(server.stop, sign)
        self.servers[number] = None

    async def reload(self) -> None:
        """All of them let in those whom the guard knows now, and nobody else."""
        for number, server in enumerate(self.servers):
            assert server is not None
            server.reload(self._config(number))

    def lose_disk(self, number: int) -> None:
        """All that a server has stored is gone; it must be dead by then."""
        shutil.rmtree(self.folder / str(number) / "store")

    async def lose_power(self, *numbers: int) -> None:
        """The machines of these servers go off at the same moment, and their disks come back with
        what `Volume` says."""
        for number in numbers:
            self.volumes[number].lose_power()
        for number in numbers:
            await self.kill(number)
            await asyncio.to_thread(self.volumes[number].unmount)
            await asyncio.to_thread(self.volumes[number].mount)

    async def stopped_storing(self, number: int) -> None:
        """The server has said that it stores no more."""
        server = self.servers[number]
        assert server is not None
        assert server.monitor is not None
        async with asyncio.timeout(PATIENCE):
            while not await asyncio.to_thread(_is_off, server.monitor):  # noqa: ASYNC110
                await asyncio.sleep(0.1)

    def part(self, number: int) -> None:
        """From now on this server and the others get nothing from each other."""
        for ends, (relay, _) in self._relays.items():
            if number in ends:
                relay.whole.clear()

    def mend(self) -> None:
        for relay, _ in self._relays.values():
            relay.whole.set()

    async def ask(self, subject: str, body: Any = None) -> dict[str, Any]:
        """One call of JetStream's API, repeated until somebody answers it."""
        async with asyncio.timeout(PATIENCE):
            while True:
                with suppress(nats.errors.Error, OSError, TimeoutError):
                    client = await nats.connect(
                        [f"nats://{HOST}:{port}" for port in self.ports],
                        connect_timeout=1,
                        max_reconnect_attempts=2,
                        error_cb=_ignore,
                        **(self.guard.way_in() if self.guard else {}),
                    )
                    try:
                        data = b"" if body is None else orjson.dumps(body)
                        answer = await client.request(f"$JS.API.{subject}", data, timeout=1)
                        found: dict[str, Any] = orjson.loads(answer.data)
                        if "error" not in found:
                            return found
                    finally:
                        await client.close()
                await asyncio.sleep(0.1)

    async def ready(self) -> None:
        """It can keep a stream on all three."""
        stream = {"name": "probe", "subjects": ["probe"], "num_replicas": COUNT}
        await self.ask("STREAM.CREATE.probe", stream)

    async def leader(self, stream: str) -> int:
        """The number of the server that leads a stream just now."""
        async with asyncio.timeout(PATIENCE):
            while True:
                info = await self.ask(f"STREAM.INFO.{stream}")
                name = info["cluster"].get("leader")
                if name:
                    return int(name[1:])
                await asyncio.sleep(0.1)

    async def healed(self, stream: str) -> None:
        """All replicas of a stream have all that it has."""
        info: dict[str, Any] = {}
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    info = (await self.ask(f"STREAM.INFO.{stream}"))["cluster"]
                    replicas = info.get("replicas") or []
                    current = [each["current"] and not each.get("offline") for each in replicas]
                    if info.get("leader") and current == [True] * (COUNT - 1):
                        return
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"the replicas of {stream} do not heal: {info}") from None

    async def end(self) -> None:
        for number, server in enumerate(self.servers):
            if server is not None and server.process.poll() is None:
                os.kill(server.process.pid, signal.SIGCONT)
                await self.kill(number)
        for relay, _ in self._relays.values():
            await relay.stop()
        for volume in self.volumes:
            await asyncio.to_thread(volume.unmount)
        shutil.rmtree(self.folder, ignore_errors=True)


def _is_off(monitor: str) -> bool:
    """Whether a server says that it stores nothing for anybody."""
    with urllib.request.urlopen(f"{monitor}/jsz") as answer:
        said: dict[str, Any] = orjson.loads(answer.read())
    return bool(said.get("disabled"))


async def _ignore(_: Exception) -> None:
    """A server that is away is why it is asked again."""


@asynccontextmanager
async def cluster(**how: bool) -> AsyncIterator[Cluster]:
    """`how` is as of Cluster."""
    own = await asyncio.to_thread(lambda: Cluster(**how))
    try:
        await own.begin()
        yield own
    finally:
        await own.end()
