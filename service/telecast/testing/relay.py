"""A TCP relay in front of a service, which cuts, falls silent, or lets no WebSocket through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from yarl import URL

HEAD = 64 * 1024


class Relay:
    """`url` is where clients connect. What it does to a connection holds from the next byte on."""

    def __init__(self, target: str) -> None:
        """`target`: the service's address; may be changed while it runs."""
        self.target = target
        self.url = ""
        self.count = 0
        """Connections taken so far."""
        self.paths: list[str] = []
        """What each asked for first."""
        self.no_websocket: int | None = None
        """The status with which an upgrade is refused; None lets it pass."""
        self.refused = 0
        """Upgrades refused so far."""
        self.refuses = False
        """Whether connections are ended as soon as they are made."""
        self._flows = asyncio.Event()
        self._flows.set()
        self._silenced: list[asyncio.Event] = []
        self._writers: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """End all connections, as a line that breaks does."""
        for writer in list(self._writers):
            writer.transport.abort()

    def freeze(self) -> None:
        """From now on nothing arrives, and no error shows."""
        self._flows.clear()

    def silence(self) -> None:
        """What is connected now gets nothing any more, and no error; who connects anew does."""
        self._flows.clear()
        self._silenced.append(self._flows)
        self._flows = asyncio.Event()
        self._flows.set()

    def thaw(self) -> None:
        for flows in (*self._silenced, self._flows):
            flows.set()
        self._silenced.clear()

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.count += 1
        self._writers.add(writer)
        try:
            if self.refuses:
                return
            flows = self._flows
            await flows.wait()
            head = await reader.readuntil(b"\r\n\r\n")
            self.paths.append(head.split(b" ", 2)[1].decode().partition("?")[0])
            await self._let_through(head, writer)
            at = URL(self.target)
            far_reader, far_writer = await asyncio.open_connection(at.host, at.port)
            self._writers.add(far_writer)
            far_writer.write(head)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry(reader, far_writer, flows, asker=writer))
                group.create_task(self._carry(far_reader, writer, flows))
        except* (OSError, EOFError):
            pass
        finally:
            writer.transport.abort()
            self._writers.discard(writer)

    async def _let_through(self, request: bytes, asker: asyncio.StreamWriter) -> None:
        """Raises ConnectionRefusedError, behind an answer, where it is an upgrade and blocked."""
        if self.no_websocket is None or b"\r\nupgrade: websocket\r\n" not in request.lower():
            return
        self.refused += 1
        body = b"<h1>No</h1>"
        start = f"HTTP/1.1 {self.no_websocket} No\r\nContent-Type: text/html\r\n"
        asker.write(f"{start}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await asker.drain()
        raise ConnectionRefusedError

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        flows: asyncio.Event,
        *,
        asker: asyncio.StreamWriter | None = None,
    ) -> None:
        """`asker` where requests come this way: a client may upgrade a connection that it kept."""
        try:
            while data := await reader.read(HEAD):
                await flows.wait()
                if asker is not None:
                    await self._let_through(data, asker)
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()
            self._writers.discard(writer)


@asynccontextmanager
async def listening(
    take: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]],
    end: Callable[[], None],
) -> AsyncIterator[str]:
    """The address where each connection is given to `take`. Afterwards `end` is called, which is to
    end them all, and they are waited for."""
    tasks: set[asyncio.Task[None]] = set()

    def taken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(take(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(taken, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    try:
        yield f"http://{host}:{port}"
    finally:
        server.close()
        end()
        while tasks:
            await asyncio.wait(list(tasks))


@asynccontextmanager
async def relay(target: str) -> AsyncIterator[Relay]:
    own = Relay(target)

    def end() -> None:
        own.thaw()
        own.cut()

    async with listening(own.take, end) as own.url:
        yield own
