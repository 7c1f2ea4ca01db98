"""A bare connection, for what no HTTP client would send, or would not send in one go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson

PATIENCE = 90.0
"""Seconds after which a test that waits for bytes, or for their end, fails instead of hanging."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        parsed = orjson.loads(self.body)
        assert parsed["success"] is False
        error: dict[str, Any] = parsed["error"]
        return error


class Bare:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def answer(self) -> Answer:
        """The next answer, which tells its length."""
        async with asyncio.timeout(PATIENCE):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.split("\r\n")[:-2]
            headers = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(":") for line in lines)
            }
            body = await self._reader.readexactly(int(headers["content-length"]))
        return Answer(int(first.split(" ")[1]), headers, body)

    async def rest(self) -> bytes:
        """All that still comes before the other side ends it."""
        data = b""
        try:
            async with asyncio.timeout(PATIENCE):
                while piece := await self._reader.read(65_536):
                    data += piece
        except ConnectionError:
            pass  # ended with a reset: what we sent was not read to its end
        return data


@asynccontextmanager
async def bare(url: str, **options: Any) -> AsyncIterator[Bare]:
    """`options` are asyncio.open_connection's."""
    at = urlsplit(url)
    reader, writer = await asyncio.open_connection(at.hostname, at.port, **options)
    try:
        yield Bare(reader, writer)
    finally:
        writer.transport.abort()


def head(method: str, path: str, key: str | None = None, *more: str) -> bytes:
    """A request's head; `more` are header lines."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *more]
    if key is not None:
        lines.append(f"X-API-Key: {key}")
    return "\r\n".join([*lines, "", ""]).encode()
