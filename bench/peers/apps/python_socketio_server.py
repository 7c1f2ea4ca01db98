"""Broadcast with python-socketio on ASGI, as its documentation shows it."""

from __future__ import annotations

import sys
from typing import Any

import socketio
import uvicorn

sio = socketio.AsyncServer(async_mode="asgi", transports=["websocket"])


@sio.event
async def publish(sid: str, event: Any) -> None:
    await sio.emit("event", event, skip_sid=sid)


uvicorn.run(
    socketio.ASGIApp(sio),
    host="127.0.0.1",
    port=int(sys.argv[1]),
    loop="uvloop",
    log_level="warning",
    backlog=4096,
    ws_per_message_deflate=False,
)
