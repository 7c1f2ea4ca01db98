"""A channel that changes between two starts keeps its rows, or is refused, or begins anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from telecast.changes import settle_changes
from telecast.channels.catalogue import Catalogue
from telecast.channels.configured import catalogue_from
from telecast.errors import JournalLocked, SettingsError
from tests.support.payloads import ORDERS
from tests.support.service.live import served

LOG = '[fills]\nmode = "log"\n[fills.fields]\nid = { type = "id" }\nnote = { type = "text" }\n'
BEFORE = catalogue_from(ORDERS + LOG)
ORDER: dict[str, Any] = BEFORE["orders"].example


PRICE = 'min = "0", example = "67250.10"'
DEARER = 'min = "70000"'
"""A bound that no stored order keeps."""


def after(old: str, new: str) -> Catalogue:
    text = ORDERS + LOG
    assert old in text
    return catalogue_from(text.replace(old, new))


@pytest.fixture
async def journal(tmp_path: Path) -> str:
    """Of a service that had two orders and a fill."""
    url = f"sqlite:{tmp_path / 'journal.db'}"
    settle_changes(url, BEFORE, ())
    async with served(catalogue=BEFORE, journal=url) as live:
        await live.publish("orders", ORDER, ORDER | {"id": "o2", "traderId": None})
        await live.publish("fills", {"id": "f1", "note": "x"})
    settle_changes(url, BEFORE, ())
    return url


def refused(journal: str, catalogue: Catalogue, *accepted: str) -> str:
    with pytest.raises(SettingsError) as caught:
        settle_changes(journal, catalogue, accepted)
    return "\n".join(caught.value.problems)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[orders.fields]\n", '[orders.fields]\nnote = { type = "text", nullable = true }\n'),
        ('"CANCELLED"] }\n', '"CANCELLED", "EXPIRED"] }\n'),
        ('min = "0"', 'min = "-1"'),
        ("5_000", "6_000"),
    ],
)
async def test_what_leaves_stored_rows_true_is_fine(journal: str, old: str, new: str) -> None:
    catalogue = after(old, new)
    settle_changes(journal, catalogue, ())
    async with served(catalogue=catalogue, journal=journal) as live:
        rows = (await live.get("/api/v1/channels/orders/snapshot"))["rows"]
        assert [each["key"] for each in rows] == ["o1", "o2"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (PRICE, DEARER, "orders: field price: Must be 70000 or more. (2 stored"),
        ("price = ", "cost = ", "orders: field price: Unknown field."),
        ('traderId = { type = "id", nullable = true', 'traderId = { type = "id"', "such as 'o2'"),
        ('"OPEN", ', "", "orders: field status: Must be one of"),
        ("[orders]\n", '[orders]\nkey = ["symbol"]\n', "orders: field symbol: The key is another."),
        (
            'pin = ["status"]\nends = { status = ["FILLED", "CANCELLED"] }\n',
            'mode = "log"\n',
            "orders: mode: it is a log now, but has 2 rows.",
        ),
        ('note = { type = "text" }', 'note = { type = "count" }', "fills: field note: Must be"),
        ('mode = "log"\n', "", "fills: mode: it is keyed now, but has 1 events of before."),
    ],
)
async def test_what_would_make_stored_rows_false_is_refused_with_the_field(
    journal: str, old: str, new: str, said: str
) -> None:
    found = refused(journal, after(old, new))
    assert said in found
    assert "--accept-change" in found
    async with served(catalogue=BEFORE, journal=journal) as live:
        assert len((await live.get("/api/v1/channels/orders/snapshot"))["rows"]) == 2


@pytest.mark.parametrize("transport", ["ws", "sse"])
async def test_an_accepted_change_gives_the_channel_a_new_life_sent_as_a_snapshot(
    journal: str, transport: str
) -> None:
    catalogue = after(PRICE, DEARER)
    settle_changes(journal, catalogue, ("orders",))
    async with served(catalogue=catalogue, journal=journal) as live:
        assert live.parts.tape.head == 3
        assert len((await live.get("/api/v1/channels/fills/events"))["events"]) == 1
        await live.publish("orders", ORDER | {"price": "70001"})
        async with live.transport(transport, channels="orders,fills", since=live.at(2)) as reader:
            opening = [each.body for each in await reader.opening()]
            (snapshot,) = [each for each in opening if each["type"] == "snapshot"]
            assert snapshot["channels"] == ["orders"]
            assert snapshot["reason"] == "POSITION_EXPIRED"
            keys = [each["key"] for each in opening if each["type"] == "event"]
            assert sorted(keys) == ["f1", "o1"]


async def test_an_accepted_change_that_needs_nothing_costs_nothing(journal: str) -> None:
    settle_changes(journal, BEFORE, ("orders",))
    settle_changes(journal, after('min = "0"', 'min = "-5"'), ("orders",))
    async with served(catalogue=BEFORE, journal=journal) as live:
        assert len((await live.get("/api/v1/channels/orders/snapshot"))["rows"]) == 2


async def test_a_channel_that_left_the_file_comes_back_with_its_rows(journal: str) -> None:
    async with served(catalogue=catalogue_from(LOG), journal=journal) as live:
        status, _, _ = await live.ask("GET", "/api/v1/channels/orders/snapshot")
        assert status == 404
        assert live.parts.tape.head == 3
        await live.publish("fills", {"id": "f2", "note": "x"})
    async with served(catalogue=BEFORE, journal=journal) as live:
        assert len((await live.get("/api/v1/channels/orders/snapshot"))["rows"]) == 2


async def test_only_a_channel_of_the_file_can_begin_anew(journal: str) -> None:
    assert "Did you mean 'orders'?" in refused(journal, BEFORE, "ordres")
    assert "has no channel 'positions'" in refused(journal, BEFORE, "positions")


async def test_a_log_without_rows_that_had_rows_before_is_refused_for_its_history(
    journal: str,
) -> None:
    async with served(catalogue=BEFORE, journal=journal) as live:
        for key in ("o1", "o2"):
            await live.ask("DELETE", f"/api/v1/channels/orders/rows/{key}")
    keyed = 'pin = ["status"]\nends = { status = ["FILLED", "CANCELLED"] }\n'
    assert "orders: mode: it is a log now, but has 4 events" in refused(
        journal, after(keyed, 'mode = "log"\n')
    )


async def test_a_journal_in_use_is_left_alone(journal: str) -> None:
    async with served(catalogue=BEFORE, journal=journal):
        with pytest.raises(JournalLocked):
            settle_changes(journal, after(PRICE, DEARER), ("orders",))
