"""The line between the parent and one worker: JSON objects, one a line, on a pair of sockets.

It is the worker's standard input, so that nothing else has to be agreed on; and when one end dies,
the other reads the end of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import AsyncIterator
from typing import Any

import orjson

AT_ONCE = 256 * 1024
NOT_OURS = "--as-worker is for the parent of `telecast serve --workers N`: leave it out."


class Line:
    """One end. Messages are whole or not there at all."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._read = b""
        self._turn = asyncio.Lock()
        self._sending: set[asyncio.Task[None]] = set()

    @classmethod
    def of_stdin(cls) -> Line | None:
        """The worker's end; None where standard input is no socket."""
        if not stat.S_ISSOCK(os.fstat(0).st_mode):
            return None
        return cls(socket.socket(fileno=os.dup(0)))

    def first(self) -> dict[str, Any]:
        """The first message, waited for without a loop. Raises EOFError."""
        while (message := self._next()) is None:
            if not (data := self._socket.recv(AT_ONCE)):
                raise EOFError
            self._read += data
        return message

    async def messages(self) -> AsyncIterator[dict[str, Any]]:
        """Until the other end is gone."""
        self._socket.setblocking(False)
        loop = asyncio.get_running_loop()
        while True:
            while (message := self._next()) is not None:
                yield message
            try:
                data = await loop.sock_recv(self._socket, AT_ONCE)
            except OSError:
                return
            if not data:
                return
            self._read += data

    async def send(self, message: dict[str, Any]) -> None:
        """What can't be sent because the other end is gone is dropped: `messages` ends then. One
        whose sender is cancelled is sent all the same: half of it would spoil the next."""
        task = asyncio.create_task(self._send(message))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)
        await asyncio.shield(task)

    async def _send(self, message: dict[str, Any]) -> None:
        async with self._turn:
            with contextlib.suppress(OSError):
                self._socket.setblocking(False)
                await asyncio.get_running_loop().sock_sendall(
                    self._socket, orjson.dumps(message) + b"\n"
                )

    def send_now(self, message: dict[str, Any]) -> None:
        """The same where no loop runs."""
        with contextlib.suppress(OSError):
            self._socket.setblocking(True)
            self._socket.sendall(orjson.dumps(message) + b"\n")

    def close(self) -> None:
        self._socket.close()

    def _next(self) -> dict[str, Any] | None:
        line, found, rest = self._read.partition(b"\n")
        if not found:
            return None
        self._read = rest
        message: dict[str, Any] = orjson.loads(line)
        return message
