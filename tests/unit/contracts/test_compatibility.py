"""The contract against the one that was last released: what breaks a client needs a new version.

`tests/data/contract.json` is that contract. Who changes it on purpose raises the protocol's version
and writes it anew: `python -m tests.unit.contracts.test_compatibility`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from telecast.channels.catalogue import CHANNELS
from telecast.contracts.shapes import client_actions, payload, row, server_messages
from telecast.protocol.messages import PROTOCOL_VERSION

RELEASED = Path(__file__).parents[2] / "data" / "contract.json"
Schema = dict[str, Any]


def contract() -> dict[str, Any]:
    channels = {
        name: {"taken": payload(channel), "sent": row(channel)}
        for name, channel in CHANNELS.items()
    }
    found = {
        "protocol": PROTOCOL_VERSION,
        "channels": channels,
        "messages": server_messages(),
        "actions": client_actions(CHANNELS.values()),
    }
    plain: dict[str, Any] = json.loads(json.dumps(found, sort_keys=True))
    return plain


def kinds(schema: Schema) -> set[str]:
    kind = schema.get("type", [])
    return {kind} if isinstance(kind, str) else set(kind)


def broken(old: Schema, new: Schema, where: str, *, taken: bool) -> Iterator[str]:
    """What no longer holds for a client: of what it sends (`taken`), or of what it is sent."""
    before, after = kinds(old), kinds(new)
    if before and after and not (before <= after if taken else after <= before):
        yield f"{where}: type was {sorted(before)}, is {sorted(after)}"
    if (
        taken
        and "enum" in new
        and not set(map(str, old.get("enum", ()))) <= set(map(str, new["enum"]))
    ):
        yield f"{where}: a choice is gone"
    fields, now = old.get("properties", {}), new.get("properties", {})
    for name, field in fields.items():
        if name not in now:
            yield f"{where}.{name}: is gone"
        else:
            yield from broken(field, now[name], f"{where}.{name}", taken=taken)
    was, needs = set(old.get("required", ())), set(new.get("required", ()))
    if taken and needs - was:
        yield f"{where}: {sorted(needs - was)} must be there now"
    if not taken and (was - needs) & now.keys():
        yield f"{where}: {sorted(was - needs)} may be missing now"
    if isinstance(old.get("items"), dict) and isinstance(new.get("items"), dict):
        yield from broken(old["items"], new["items"], f"{where}[]", taken=taken)


def breaks(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    found: list[str] = []
    if new["protocol"] != old["protocol"]:
        return found
    for name, channel in old["channels"].items():
        now = new["channels"].get(name)
        if now is None:
            found.append(f"{name}: the channel is gone")
        else:
            found += broken(channel["taken"], now["taken"], f"{name} (taken)", taken=True)
            found += broken(channel["sent"], now["sent"], f"{name} (sent)", taken=False)
    for group, taken in (("messages", False), ("actions", True)):
        for name, schema in old[group].items():
            if name not in new[group]:
                found.append(f"{group}: {name} is gone")
            else:
                found += broken(schema, new[group][name], f"{group}: {name}", taken=taken)
    return found


def test_nothing_that_was_released_is_broken_without_a_new_version() -> None:
    assert breaks(json.loads(RELEASED.read_text("utf-8")), contract()) == []


def _lose_a_field(new: dict[str, Any]) -> None:
    del new["channels"]["positions"]["sent"]["properties"]["traderId"]


def _ask_for_more(new: dict[str, Any]) -> None:
    taken = new["channels"]["positions"]["taken"]
    taken["properties"]["desk"] = {"type": "string"}
    taken["required"] = [*taken["required"], "desk"]


def _take_less(new: dict[str, Any]) -> None:
    new["channels"]["trader-status"]["taken"]["properties"]["status"]["enum"].pop()


def _change_a_type(new: dict[str, Any]) -> None:
    new["channels"]["positions"]["sent"]["properties"]["quantity"]["type"] = "number"


def _lose_a_message(new: dict[str, Any]) -> None:
    new["messages"].pop(next(iter(new["messages"])))


def _lose_a_channel(new: dict[str, Any]) -> None:
    del new["channels"]["candles"]


PLANTED = (
    _lose_a_field,
    _ask_for_more,
    _take_less,
    _change_a_type,
    _lose_a_message,
    _lose_a_channel,
)


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_break_is_found(plant: Any) -> None:
    new = contract()
    plant(new)
    assert len(breaks(contract(), new)) == 1


def test_a_new_field_and_a_new_version_break_nothing() -> None:
    new = deepcopy(contract())
    new["channels"]["positions"]["taken"]["properties"]["desk"] = {"type": "string"}
    assert breaks(contract(), new) == []
    _lose_a_channel(new)
    new["protocol"] += 1
    assert breaks(contract(), new) == []


if __name__ == "__main__":
    RELEASED.write_text(json.dumps(contract(), indent=1, sort_keys=True) + "\n", "utf-8")
