"""CONTRIBUTING.md names files that are there, and its lists are whole where that can be known."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.house.test_rooms import FLOORS

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
TASKS = dict(re.findall(r"^### (.+?)\n(.*?)(?=^##)", TEXT, re.MULTILINE | re.DOTALL))


def files_of(text: str) -> set[str]:
    return set(re.findall(r"`((?:service|tests|docs)/[\w/.]+)`", text))


def test_every_file_that_it_names_is_there() -> None:
    missing = {name for name in files_of(TEXT) if not (ROOT / name).exists()}
    assert not missing


def test_every_kind_of_test_is_explained() -> None:
    kinds = {f"tests/{each.name}" for each in (ROOT / "tests").iterdir() if each.is_dir()}
    kinds = {kind for kind in kinds if any((ROOT / kind).rglob("*.py"))}
    assert kinds - {"tests/data", "tests/conformance"} <= files_of(TEXT)


@pytest.mark.parametrize(
    ("task", "holds", "where"),
    [
        ("A new channel", r"\"market-data\"|\bMarketData\b", "service/telecast/channels"),
        ("A new channel", r"Literal\[\"market-data\"\]", "service/telecast/client"),
        ("A new action of the WebSocket", r"\bUnsubscribe\b|\"unsubscribe\": ", "service/telecast"),
        ("A new journal", r"\bMemoryJournal\b", "service/telecast/journal"),
        ("A new journal", r"memory:\|sqlite:", "service/telecast/config"),
        ("A new admin call", r"\"/keys/\{id\}\"|/keys/\{\{id\}\}", "service/telecast"),
    ],
)
def test_a_list_has_every_file_that_the_last_one_of_its_kind_has_touched(
    task: str, holds: str, where: str
) -> None:
    """What names the thing that is there must be changed for the next one."""
    touched = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / where).rglob("*.py")
        if re.search(holds, path.read_text("utf-8"))
    }
    assert touched
    assert touched <= files_of(TASKS[task])


@pytest.mark.parametrize(
    ("what", "rows"),
    [
        ("Setting", r"^    \w+: .+ = _\w+\("),
        ("Metric", r"^    Metric\("),
        ("Error code", r"\bclass Code\("),
    ],
)
def test_what_is_a_row_of_a_table_is_looked_for_where_the_rows_are(what: str, rows: str) -> None:
    [line] = re.findall(rf"^- {what}: .*", TEXT, re.MULTILINE)
    [path] = [each for each in files_of(line) if each.endswith(".py")]
    assert re.search(rows, (ROOT / path).read_text("utf-8"), re.MULTILINE)


def test_the_architecture_page_shows_every_room() -> None:
    page = (ROOT / "docs/design/architecture.md").read_text("utf-8")
    table = page.partition("| room | holds |")[2].partition("\n\n")[0]
    named = set(re.findall(r"`(\w+)`", table))
    assert {room for floor in FLOORS for room in floor if room != "__main__"} <= named
