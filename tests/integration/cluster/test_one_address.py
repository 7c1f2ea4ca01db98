"""Three nodes behind one address, with the proxies' files of deploy/cluster as they are."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from telecast.keys import KeyStore
from tests.support.payloads import price
from tests.support.service import certificate, proxy
from tests.support.service.live import Ended, Live, WsReader, principal, served
from tests.support.service.nats import needs_nats, shared
from tests.support.service.nodes import SECRET, stream_name

pytestmark = needs_nats
FORMS = [
    pytest.param(
        form, marks=pytest.mark.skipif(not there, reason=f"{name} or openssl is not installed")
    )
    for name, form, there in (
        ("nginx", proxy.cluster_nginx, proxy.NGINX and certificate.OPENSSL),
        ("caddy", proxy.cluster_caddy, proxy.CADDY and certificate.OPENSSL),
    )
]
PRICES = {"channels": "market-data", "delivery": "all"}


class Cluster:
    """Three nodes, each of which can be ended by itself, and clients of the address before them."""

    def __init__(self, url: str, session: aiohttp.ClientSession, nodes: list[Live]) -> None:
        self.url = url
        self.session = session
        self.nodes = nodes
        self.headers = nodes[0].headers("desk")
        self.lives: list[AsyncExitStack] = []

    async def stream(self, stack: AsyncExitStack, **query: str) -> WsReader:
        ws = await stack.enter_async_context(
            self.session.ws_connect(
                f"{self.url}/ws/telemetry", headers=self.headers, params={**PRICES, **query}
            )
        )
        return WsReader(ws)

    async def publish(self, number: int) -> str:
        async with self.session.post(
            f"{self.url}/api/v1/channels/market-data/events",
            headers=self.headers | {"Idempotency-Key": str(number)},
            json=price(price=str(number)),
        ) as response:
            assert response.status == 201, await response.text()
            position: str = (await response.json())["data"]["position"]
            return position

    def crowds(self) -> list[int]:
        return [sum(node.parts.clients.connections().values()) for node in self.nodes]


@pytest_asyncio.fixture(params=FORMS)
async def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Cluster]:
    form: Callable[..., Any] = request.param
    desk, log = principal(), f"{shared().url}/{stream_name()}"
    _, secrets = KeyStore.of(desk, now=time.time)
    async with AsyncExitStack() as stack:
        lives, nodes = [], []
        for number in range(3):
            lives.append(await stack.enter_async_context(AsyncExitStack()))
            own = served(
                keys=KeyStore.of(desk, now=time.time, known=secrets)[0],
                secrets={"desk": secrets[desk.key_id]},
                secret=SECRET,
                journal=log,
                journal_copy=tmp_path / f"{number}.db",
                behind_proxy=True,
            )
            nodes.append(await lives[-1].enter_async_context(own))
        ports = [int(node.url.rpartition(":")[2]) for node in nodes]
        before = await stack.enter_async_context(form(tmp_path, ports))
        session = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=before.context))
        )
        made = Cluster(f"https://127.0.0.1:{before.port}", session, nodes)
        made.lives = lives
        yield made


async def test_streams_spread_over_the_nodes_and_the_end_of_one_is_a_resume_at_another(
    cluster: Cluster,
) -> None:
    async with AsyncExitStack() as stack:
        readers = []
        for _ in range(3):
            readers.append(await cluster.stream(stack))
            await readers[-1].opening()
        assert cluster.crowds() == [1, 1, 1]
        for number in range(3):
            position = await cluster.publish(number)
        for reader in readers:
            assert [each.row["price"] for each in await reader.events(3)] == ["0", "1", "2"]
        await cluster.lives[0].aclose()
        ended = []
        for reader in readers:
            if (await reader.read()).type == "notice":
                with pytest.raises(Ended) as end:
                    await reader.read()
                ended.append(end.value.code)
                break
            ended.append(None)
        # A node of this process: it may cut its sockets before the proxy has passed all on.
        assert ended[-1] in (1001, 1006)
        await cluster.publish(3)
        again = await cluster.stream(stack, since=position)
        opened = await again.opening()
        assert [each.type for each in opened] == ["ack", "resume", "event", "live"]
        assert opened[2].row["price"] == "3"
        assert cluster.crowds()[1:] in ([1, 2], [2, 1])


async def test_what_one_process_counts_is_not_shown_as_the_services(cluster: Cluster) -> None:
    async with cluster.session.get(f"{cluster.url}/metrics", headers=cluster.headers) as response:
        assert response.status == 404
