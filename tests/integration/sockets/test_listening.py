"""The service listens on every address that was named, on one port."""

from __future__ import annotations

import socket

import aiohttp
import pytest

from telecast.net.listening import listen
from tests.support.service.live import served

needs_ipv6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="there is no IPv6")


async def livez(host: str, port: int) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{host}:{port}/livez") as answer,
    ):
        return answer.status


@needs_ipv6
@pytest.mark.parametrize("hosts", [("127.0.0.1", "::1"), ("::",), ("0.0.0.0", "::")])
async def test_ipv4_and_ipv6_are_served_on_the_same_port(hosts: tuple[str, ...]) -> None:
    async with served(host=hosts, behind_proxy=True) as live:
        port = int(live.url.rpartition(":")[2])
        assert await livez("127.0.0.1", port) == 200
        assert await livez("[::1]", port) == 200


def test_where_one_address_can_not_be_had_none_is_kept() -> None:
    with socket.create_server(("127.0.0.2", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use") as refused:
            listen(["127.0.0.1", "127.0.0.2"], port)
        assert refused.value.filename == "127.0.0.2"
        (again,) = listen(["127.0.0.1"], port)
        again.close()
