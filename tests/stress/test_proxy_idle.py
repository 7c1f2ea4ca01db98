"""Proxies cut what is silent; heartbeats are there so that a stream never is."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.service import certificate, proxy
from tests.support.service.process import service
from tests.support.sockets.raw import Line, Over, dial

READ_TIMEOUT = 8
"""Seconds of silence after which the proxy cuts; the least heartbeat is 5."""
BEATS = 4

pytestmark = pytest.mark.skipif(
    not (proxy.NGINX and certificate.OPENSSL), reason="nginx or openssl is not installed"
)


async def test_heartbeats_outlast_a_proxys_patience_and_too_rare_ones_do_not(
    tmp_path: Path,
) -> None:
    plain = {
        " ssl http2": "",
        "ssl_certificate     ": "# ",
        "ssl_certificate_key ": "# ",
        "proxy_read_timeout 90s": f"proxy_read_timeout {READ_TIMEOUT}s",
    }
    async with (
        service(tmp_path, behind_proxy="true") as own,
        proxy.nginx(tmp_path, own.port, plain) as before,
        asyncio.TaskGroup() as lines,
    ):
        for transport in ("ws", "sse"):
            asked = {"channels": "positions"}
            often = await dial(transport, before.port, own.key, heartbeat=5, **asked)
            rarely = await dial(transport, before.port, own.key, heartbeat=60, **asked)
            lines.create_task(lives_on(often))
            lines.create_task(is_cut(rarely))


async def lives_on(line: Line) -> None:
    await line.until("live")
    for _ in range(BEATS):
        await line.expect("heartbeat")
    line.cut()


async def is_cut(line: Line) -> None:
    await line.until("live")
    with pytest.raises(Over) as over:
        await line.read()
    assert over.value.code is None
    line.cut()
