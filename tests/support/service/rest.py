"""What a service answers over REST, with the events' own bytes."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import orjson

from tests.support.service.process import Service

_DECODER = json.JSONDecoder()


async def ask(own: Service, path: str, **query: Any) -> bytes:
    """The body of an answer that is 200."""
    async with (
        aiohttp.ClientSession(headers=own.headers) as session,
        session.get(own.url + path, params=query) as response,
    ):
        body = await response.read()
        assert response.status == 200, body
        return body


async def publish(own: Service, channel: str, *payloads: Any) -> dict[str, Any]:
    """The receipt of a publish that is accepted."""
    async with (
        aiohttp.ClientSession(headers=own.headers) as session,
        session.post(f"{own.url}/api/v1/channels/{channel}/events", json=payloads) as response,
    ):
        answer = orjson.loads(await response.read())
        assert response.status == 201, answer
        receipt: dict[str, Any] = answer["data"]
        return receipt


async def history(own: Service, channel: str, *, after: str | None = None) -> list[bytes]:
    """Each event of a channel after a position as its JSON was sent, page by page."""
    found: list[bytes] = []
    while True:
        start = {} if after is None else {"after": after}
        body = await ask(own, f"/api/v1/channels/{channel}/events", limit=5000, **start)
        found += _elements(body, b'"events":')
        page = orjson.loads(body)["data"]
        if not page["more"]:
            return found
        assert page["position"] != after, "pages go on"
        after = page["position"]


async def rows(own: Service, channel: str) -> dict[tuple[str, str], dict[str, Any]]:
    """(channel, key) to payload of all rows of a channel's snapshot."""
    found = {}
    more: dict[str, Any] = {}
    while True:
        body = await ask(own, f"/api/v1/channels/{channel}/snapshot", limit=5000, **more)
        page = orjson.loads(body)["data"]
        found.update({(channel, row["key"]): row["data"] for row in page["rows"]})
        if not page["more"]:
            return found
        more = {"cursor": page["cursor"]}


async def metric(own: Service, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels."""
    total = 0.0
    for line in (await ask(own, "/metrics")).decode().splitlines():
        reported, _, value = line.rpartition(" ")
        if reported.partition("{")[0] == name and all(
            f'{label}="{wanted}"' in reported for label, wanted in labels.items()
        ):
            total += float(value)
    return total


def _elements(body: bytes, before: bytes) -> list[bytes]:
    """The elements of the list that follows `before`, each as its own bytes."""
    text = body.decode()
    at = text.index(before.decode()) + len(before) + 1
    found = []
    while text[at] != "]":
        _, end = _DECODER.raw_decode(text, at)
        found.append(text[at:end].encode())
        at = end + (text[end] == ",")
    return found
