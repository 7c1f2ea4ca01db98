"""The tables of the documentation are made from the code, and every one of them is shown."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest

import telecast.cli
from telecast.channels.catalogue import CHANNELS
from telecast.config import Settings, load_settings, table
from telecast.errors import CODES
from telecast.model import SCOPES

DOCS = Path(__file__).parents[3] / "docs"
PAGES = {path.relative_to(DOCS).as_posix(): path.read_text("utf-8") for path in DOCS.rglob("*.md")}


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("telecast_docs_tables", DOCS / "tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def built(tables: ModuleType) -> dict[str, str]:
    """The pages as they are built."""
    return {name: tables.filled(text) for name, text in PAGES.items()}


def cells(text: str) -> Iterator[list[str]]:
    """The rows of all tables of a page."""
    for line in text.splitlines():
        if line.startswith("|"):
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def first_cells(text: str) -> set[str]:
    return {row[0].strip("`") for row in cells(text)}


def test_every_table_is_shown(tables: ModuleType) -> None:
    source = "\n".join(PAGES.values())
    for name in tables.TABLES:
        assert f"\n<!-- telecast:{name} -->\n" in source, name


def test_the_committed_tables_are_what_the_code_says(built: dict[str, str]) -> None:
    differ = [name for name, text in built.items() if text != PAGES[name]]
    assert not differ, "run: python docs/tables.py --write"


def test_a_marker_of_no_table_is_an_error(tables: ModuleType) -> None:
    with pytest.raises(KeyError):
        tables.filled("<!-- telecast:setings -->\n")


def test_every_setting_is_there_with_its_default(built: dict[str, str]) -> None:
    rows = {row[0].strip("`"): row for row in cells(built["reference/settings.md"])}
    for about in table():
        row = rows[about.name]
        if about.default not in (None, (), False):
            assert row[1].lower() == f"`{about.shown_default}`".lower(), about.name
        assert len(row) == 3, f"{about.name}: a cell that broke in two"


def test_a_setting_is_said_to_do_nothing_only_while_it_does_nothing() -> None:
    modules = (DOCS.parent / "service").rglob("*.py")
    used = "".join(path.read_text("utf-8") for path in modules if path.name != "table.py")
    idle = {about.name for about in table() if not re.search(rf"\b{about.name}\b", used)}
    said = set(re.findall(r"`(\w+)` is taken and checked, but not", PAGES["reference/settings.md"]))
    assert said == idle


def test_settings_that_pages_speak_of_exist() -> None:
    known = {about.flag for about in table()} | {about.variable for about in table()}
    # Flags of commands that are no settings.
    known |= (
        flags_of(telecast.cli.main)
        | {"--" + word for word in OTHER_FLAGS.split()}
        | {"TELECAST_URL", "TELECAST_KEY"}
    )
    # And what tests are steered by.
    known |= {
        f"TELECAST_{word}"
        for word in ["ROUNDS", "FREEZE", "SCHEDULES", "FIRST", "SEED", "NODE_ROUNDS", "CLIENT_CUTS"]
    }
    known.add("_TELECAST_COMPLETE")
    for name, text in PAGES.items():
        for word in re.findall(r"(?<![\w-])--[a-z][a-z-]+|_?TELECAST_[A-Z_]+", text):
            assert word in known or word == "TELECAST_", f"{name}: {word}"


def flags_of(command: click.Command) -> set[str]:
    found = {flag for each in command.params for flag in (*each.opts, *each.secondary_opts)}
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found |= flags_of(command.get_command(context, name))  # type: ignore[arg-type]
    return found


OTHER_FLAGS = (
    "data-binary write speed-limit speed-time rows peers reps quick docs prefix help "
    "kill-whom signal compression recorded collect-only seconds experimental-websocket"
)
"""Those of curl, of Node, of the tables and of the benchmarks."""


def test_the_toml_that_pages_show_is_right(tmp_path: Path) -> None:
    shown = re.findall(r"^```toml\n(.*?)^```$", PAGES["operating.md"], re.MULTILINE | re.DOTALL)
    assert shown
    for each in shown:
        for place in re.findall(r'"(/etc/[^"]+\.pem)"', each):
            local = tmp_path / Path(place).name
            local.touch()
            each = each.replace(place, str(local))
        file = tmp_path / "telecast.toml"
        file.write_text(each)
        assert isinstance(load_settings({}, environ={}, file=file), Settings)


@pytest.mark.parametrize("page", ["reference/errors.md", "protocol.md"])
def test_every_error_code_is_there(page: str, built: dict[str, str]) -> None:
    rows = {row[0].strip("`"): row for row in cells(built[page])}
    for name, code in CODES.items():
        assert rows[name][1] == str(code.http)
        assert rows[name][2] == ("-" if code.close is None else str(code.close))


def test_codes_that_pages_speak_of_exist() -> None:
    known = set(CODES) | set(REASONS.split())
    for name, text in PAGES.items():
        if name.startswith("design/"):
            continue
        for word in re.findall(r"`(?:\d{3} )?([A-Z]+_[A-Z_]+)`", text):
            assert word in known or not word.isascii(), f"{name}: {word}"


REASONS = """
    EPOCH_CHANGED POSITION_EXPIRED POSITION_UNKNOWN POSITION_MALFORMED RIGHTS_CHANGED
    EMERGENCY_STOP DAILY_LOSS STOP_LOSS TELECAST_ TELECAST_CONFIG TELECAST_KEY TELECAST_KEYS
    HTTP_PROXY HTTPS_PROXY NO_PROXY
    TELECAST_CHANNELS TELECAST_URL TCP_NOTSENT_LOWAT TCP_USER_TIMEOUT SO_SNDBUF SO_REUSEPORT
"""
"""Words in upper case that are no error codes."""


def test_every_close_code_of_the_service_is_explained() -> None:
    section = PAGES["protocol.md"].partition("## 8.")[2].partition("## 9.")[0]
    reported = set(re.findall(r"\d{4}", " ".join(row[0] for row in cells(section))))
    assert {str(code.close) for code in CODES.values() if code.close} <= reported


def test_every_channel_field_and_filter_is_there(built: dict[str, str]) -> None:
    reference, contract = built["reference/channels.md"], built["protocol.md"]
    for name, channel in CHANNELS.items():
        assert f"\n## {name}\n" in reference
        assert name in first_cells(contract)
        part = reference.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        assert set(channel.schema.fields) <= first_cells(part)
        payload = contract.partition(f"\n**{name}**\n")[2].partition("\n**")[0]
        for field in channel.schema.fields:
            assert f"`{field}`" in payload, f"{name}: {field}"
        for each in channel.filters:
            assert f"`{each}`" in part


def test_every_nested_field_is_in_the_contract(tables: ModuleType) -> None:
    contract = PAGES["protocol.md"]
    metrics = CHANNELS["trader-status"].schema.fields["metrics"].schema  # type: ignore[attr-defined]
    for field in metrics.fields:
        assert f"`{field}`" in contract, field


def test_every_metric_of_a_running_service_is_there(
    tables: ModuleType, built: dict[str, str]
) -> None:
    shown = first_cells(built["reference/metrics.md"])
    found = tables.collectors()
    assert {name for name, _, _ in found} <= shown
    for name in re.findall(r"\btelecast_[a-z_]+\b", PAGES["operating.md"]):
        assert re.sub("_(sum|count|bucket)$", "", name) in shown, name
    assert all(reported for _, _, reported in found)


def test_every_scope_is_explained() -> None:
    assert set(SCOPES) <= first_cells(PAGES["keys.md"])


def test_no_page_names_a_path_of_a_machine() -> None:
    for name, text in PAGES.items():
        assert not re.search(r"(?<![\w.])/(?:work|root|home|tmp)/", text), name
