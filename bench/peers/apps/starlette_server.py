"""Broadcast with Starlette as tutorials do, and with sse-starlette and a queue a client."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

sockets: list[WebSocket] = []
queues: set[asyncio.Queue[str]] = set()


async def publish(ws: WebSocket) -> None:
    await ws.accept()
    async for text in ws.iter_text():
        for queue in queues:
            queue.put_nowait(text)
        for socket in list(sockets):
            try:
                await socket.send_text(text)
            except (WebSocketDisconnect, RuntimeError):
                sockets.remove(socket)


async def by_websocket(ws: WebSocket) -> None:
    await ws.accept()
    sockets.append(ws)
    try:
        async for _ in ws.iter_text():
            pass
    finally:
        if ws in sockets:
            sockets.remove(ws)


async def by_sse(request: Request) -> EventSourceResponse:
    queue: asyncio.Queue[str] = asyncio.Queue()
    queues.add(queue)

    async def events() -> AsyncIterator[Any]:
        try:
            while True:
                yield {"data": await queue.get()}
        finally:
            queues.discard(queue)

    return EventSourceResponse(events())


app = Starlette(
    routes=[
        WebSocketRoute("/publish", publish),
        WebSocketRoute("/ws", by_websocket),
        Route("/sse", by_sse),
    ]
)
uvicorn.run(
    app,
    host="127.0.0.1",
    port=int(sys.argv[1]),
    loop="uvloop",
    log_level="warning",
    backlog=4096,
    ws_per_message_deflate=False,
)
