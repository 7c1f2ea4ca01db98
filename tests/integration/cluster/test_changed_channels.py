"""A channel that changes between two starts, in a journal that several nodes share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from telecast.channels.catalogue import Catalogue
from telecast.channels.configured import catalogue_from
from telecast.errors import SettingsError
from tests.support.payloads import ORDERS
from tests.support.service.live import Live, served
from tests.support.service.nats import NatsServer, needs_nats

pytestmark = needs_nats

LOG = '[fills]\nmode = "log"\n[fills.fields]\nid = { type = "id" }\nnote = { type = "text" }\n'
BEFORE = catalogue_from(ORDERS + LOG)
DEARER = catalogue_from((ORDERS + LOG).replace('min = "0", example = "67250.10"', 'min = "70000"'))
KEYED = catalogue_from((ORDERS + LOG).replace('mode = "log"\n', ""))
ORDER: dict[str, Any] = BEFORE["orders"].example
SECRET = b"s" * 32


class Desk:
    """Starts nodes on one log of its own."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url = url
        self._folder = folder

    def node(self, name: str, catalogue: Catalogue, *accepted: str) -> Any:
        return served(
            catalogue=catalogue,
            journal=self._url,
            journal_copy=self._folder / f"{name}.db",
            accept_changes=accepted,
            secret=SECRET,
        )


@pytest.fixture
async def desk(server: NatsServer, tmp_path: Path) -> Desk:
    """With two orders and a fill."""
    found = Desk(f"{server.url}/{tmp_path.name[-28:]}", tmp_path)
    async with found.node("a", BEFORE) as live:
        await live.publish("orders", ORDER, ORDER | {"id": "o2", "traderId": None})
        await live.publish("fills", {"id": "f1", "note": "x"})
    return found


async def keys(live: Live, channel: str = "orders") -> list[str]:
    return [row["key"] for row in (await live.get(f"/api/v1/channels/{channel}/snapshot"))["rows"]]


@pytest.mark.parametrize(
    ("catalogue", "said"),
    [
        (DEARER, "orders: field price: Must be 70000 or more. (2 stored"),
        (KEYED, "fills: mode: it is keyed now, but has 1 events of before."),
    ],
)
async def test_what_would_make_stored_rows_false_is_refused_with_the_field(
    desk: Desk, catalogue: Catalogue, said: str
) -> None:
    with pytest.raises(SettingsError) as refusal:
        async with desk.node("b", catalogue):
            pass
    assert said in refusal.value.message
    assert "--accept-change" in refusal.value.message
    async with desk.node("b", BEFORE) as live:
        assert await keys(live) == ["o1", "o2"]


async def test_an_accepted_change_begins_the_channel_anew_on_every_node(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    async with desk.node("a", BEFORE) as old, old.ws(channels="orders") as ws:
        await ws.opening()
        async with desk.node("b", DEARER, "orders") as new:
            assert await keys(new) == []
            gone = [each.body for each in await ws.events(2)]
            assert {(each["op"], each["key"]) for each in gone} == {
                ("delete", "o1"),
                ("delete", "o2"),
            }
            assert await keys(old) == []
            await new.publish("orders", ORDER | {"price": "70001"})
            head = new.parts.journal.head
            await old.parts.relay.reached(head)
            for live in (old, new):
                page = await live.parts.journal.read(["orders"], 0, 100)
                assert [entry.seq for entry in page.entries] == [head]
                assert page.floors["orders"].whole_from == head - 1
            assert len((await new.get("/api/v1/channels/fills/events"))["events"]) == 1
        assert "another node has changed a channel" in caplog.text
    async with desk.node("c", DEARER) as third:
        assert await keys(third) == ["o1"]


async def test_a_change_that_fits_needs_nothing(desk: Desk) -> None:
    async with desk.node(
        "b", catalogue_from((ORDERS + LOG).replace('min = "0"', 'min = "-1"'))
    ) as live:
        assert await keys(live) == ["o1", "o2"]


async def test_a_position_of_before_gets_a_snapshot_of_the_channel_that_began_anew(
    desk: Desk,
) -> None:
    async with desk.node("b", DEARER, "orders") as live:
        await live.publish("orders", ORDER | {"price": "70001"})
        async with live.ws(channels="orders,fills", since=live.at(2)) as ws:
            opening = [each.body for each in await ws.opening()]
            (snapshot,) = [each for each in opening if each["type"] == "snapshot"]
            assert snapshot["channels"] == ["orders"]
            assert snapshot["reason"] == "POSITION_EXPIRED"
