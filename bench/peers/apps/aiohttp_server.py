"""Broadcast with aiohttp as most write it: a loop over sockets, a queue for each SSE client."""

from __future__ import annotations

import asyncio
import sys

import uvloop
from aiohttp import WSMsgType, web
from aiohttp_sse import sse_response

SOCKETS: web.AppKey[set[web.WebSocketResponse]] = web.AppKey("sockets", set)
QUEUES: web.AppKey[set[asyncio.Queue[str]]] = web.AppKey("queues", set)


async def publish(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async for message in ws:
        if message.type is WSMsgType.TEXT:
            for queue in request.app[QUEUES]:
                queue.put_nowait(message.data)
            for socket in list(request.app[SOCKETS]):
                await socket.send_str(message.data)
    return ws


async def by_websocket(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    request.app[SOCKETS].add(ws)
    try:
        async for _ in ws:
            pass
    finally:
        request.app[SOCKETS].discard(ws)
    return ws


async def by_sse(request: web.Request) -> web.StreamResponse:
    queue: asyncio.Queue[str] = asyncio.Queue()
    async with sse_response(request) as response:
        request.app[QUEUES].add(queue)
        try:
            while response.is_connected():
                await response.send(await queue.get())
        finally:
            request.app[QUEUES].discard(queue)
    return response


def main(port: int) -> None:
    app = web.Application()
    app[SOCKETS], app[QUEUES] = set(), set()
    app.add_routes(
        [web.get("/publish", publish), web.get("/ws", by_websocket), web.get("/sse", by_sse)]
    )
    web.run_app(
        app,
        host="127.0.0.1",
        port=port,
        loop=uvloop.new_event_loop(),
        access_log=None,
        backlog=4096,
    )


main(int(sys.argv[1]))
