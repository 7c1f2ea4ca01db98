"""kill -9 in the middle of acknowledgements: what was answered is there, once in the audit, and no
repeat of a publisher undoes it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from telecast.keys import create_key
from tests.support.payloads import alert
from tests.support.service.process import Service

ROUNDS = 3
ALERTS = 40
API = "/api/v1"
ALERT_EVENTS = f"{API}/channels/risk-alerts/events"


class Operator:
    """Acknowledges alerts and positions, and remembers what was answered."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http
        self.alerts: set[str] = set()
        self.position = 0

    async def acknowledge(self, name: str) -> None:
        async with self._http.post(f"{API}/risk-alerts/{name}/acknowledge") as answer:
            if answer.status == 200:
                self.alerts.add(name)

    async def handled(self, epoch: str, seq: int) -> None:
        body = {"clientId": "desk", "position": f"{epoch}:{seq}"}
        async with self._http.post(f"{API}/clients/ack", json=body) as answer:
            if answer.status == 200:
                self.position = max(self.position, seq)


async def data_of(http: aiohttp.ClientSession, path: str) -> Any:
    async with http.get(API + path) as answer:
        assert answer.status == 200, await answer.text()
        return (await answer.json())["data"]


async def publish(http: aiohttp.ClientSession, round_: int) -> None:
    rows = [alert(f"a{round_}-{number}", severity="CRITICAL") for number in range(ALERTS)]
    async with http.post(ALERT_EVENTS, json=rows) as answer:
        assert answer.status == 201, await answer.text()


@pytest.mark.parametrize("killed_after", [5, 17, 31])
async def test_what_was_answered_outlives_kills_and_repeats(
    killed_after: int, tmp_path: Path
) -> None:
    service = Service(tmp_path)
    secret = create_key(tmp_path / "keys.toml", "operator", ["read", "publish", "operate", "admin"])
    headers = {"X-API-Key": secret}
    try:
        acknowledged, position = set[str](), 0
        for round_ in range(ROUNDS):
            await service.start()
            async with aiohttp.ClientSession(service.url, headers=headers) as http:
                operator = Operator(http)
                await publish(http, round_)
                epoch, _, head = (await data_of(http, "/stats"))["head"].partition(":")
                # Somebody who was sent everything, so that there is something to acknowledge.
                query = {"channels": "risk-alerts", "clientId": "desk", "since": "earliest"}
                async with http.ws_connect("/ws/telemetry", params=query) as line:
                    async for message in line:
                        if message.json()["type"] == "live":
                            break
                    waiting = [
                        asyncio.create_task(operator.acknowledge(f"a{round_}-{number}"))
                        for number in range(ALERTS)
                    ] + [
                        asyncio.create_task(operator.handled(epoch, int(head) - number))
                        for number in range(ALERTS, -1, -1)
                    ]
                    for done in asyncio.as_completed(waiting):
                        try:
                            await done
                        except aiohttp.ClientError:
                            continue
                        if service.up.is_set() and len(operator.alerts) >= killed_after:
                            service.kill()
                            await service.gone()
                acknowledged |= operator.alerts
                position = max(position, operator.position)
        await service.start()
        async with aiohttp.ClientSession(service.url, headers=headers) as http:
            for round_ in range(ROUNDS):
                await publish(http, round_)  # a producer repeats itself; nothing is undone
            snapshot = await data_of(http, "/channels/risk-alerts/snapshot?limit=1000")
            rows = {row["data"]["id"]: row["data"] for row in snapshot["rows"]}
            entries = (await data_of(http, "/audit?limit=1000"))["entries"]
            consumers = (await data_of(http, "/consumers"))["consumers"]
        assert len(acknowledged) >= ROUNDS * killed_after
        assert all(rows[name]["status"] == "ACKNOWLEDGED" for name in acknowledged)
        audited = [each["target"] for each in entries]
        for name in acknowledged:
            assert sum(name in target for target in audited) >= 1, name
        assert len(audited) == len(set(audited)), "an acknowledgement is in the audit once"
        kept = int(consumers[0]["position"].partition(":")[2]) if consumers else 0
        assert kept >= position, "an answered position is never lost"
    finally:
        await service.end()
