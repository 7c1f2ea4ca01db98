"""Lower rooms never import upper ones, and the pure ones stay pure: read off the sources."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import telecast
from telecast.channels.catalogue import CHANNELS

SOURCE = Path(telecast.__file__).parent

# From the ground up. A room may import its own modules and every room of a lower floor.
FLOORS = (
    ("errors",),
    ("model", "histogram"),
    ("channels",),
    ("protocol",),
    ("journal", "tape", "keys", "config", "logs", "turns", "channel_file"),
    ("fanout", "audit"),
    ("net", "relay", "ingress", "clients", "watch", "rights", "consumers", "contracts", "webhook"),
    ("system", "changes", "supervision"),
    ("web", "demo", "recording"),
    ("tasks",),
    ("app",),
    ("server",),
    ("cli", "testing"),
    ("__main__",),
)
# These know less, or more, than their floor would let them.
ONLY = {
    "config": {"errors", "model"},
    "logs": {"errors", "model"},
    "client": {"errors", "model", "protocol"},
}
ALSO = {
    "cli": {"client"},
    "testing": {"client"},
}
PURE = (
    "errors",
    "model",
    "channels",
    "protocol",
    "tape",
    "fanout.backfill",
    "fanout.catchup",
    "fanout.cohort",
    "fanout.delta",
    "fanout.floors",
    "fanout.index",
    "fanout.pending",
    "fanout.subscriber",
    "fanout.tally",
    "fanout.watch",
    "ingress.checking",
    "ingress.derivation",
    "journal.group",
    "journal.trimming",
    "journal.jetstream.clock",
    "supervision.crew",
    "supervision.orders",
    "supervision.sums",
)
IMPURE = {"asyncio", "time", "socket"}
READS_ENVIRONMENT = "config"
MOST_MODULES = 17
"""Sixteen side by side, and the package's own."""


def allowed() -> dict[str, set[str]]:
    below: set[str] = set()
    found: dict[str, set[str]] = {}
    for floor in FLOORS:
        for room in floor:
            found[room] = ONLY.get(room, below | ALSO.get(room, set()))
        below = below | set(floor)
    return found | {"client": ONLY["client"]}


ALLOWED = allowed()


def imports(module: str, tree: ast.AST, *, is_package: bool) -> Iterator[tuple[int, str]]:
    """(line, absolute name) of all that a module imports, wherever in it: lazily too, or for types.

    `from telecast import model` is reported as telecast.model: a name may be a module.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".")
            base = parts[: len(parts) - node.level + is_package] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)


def is_pure(module: str) -> bool:
    return any(f"{module}.".startswith(f"telecast.{room}.") for room in PURE)


def violations(module: str, source: str, *, is_package: bool = False) -> list[str]:
    """What a module (absolute name) does that its room forbids, as `module:line: why`."""
    tree = ast.parse(source)
    if module == "telecast":
        room, may = "", set()
    else:
        room = module.split(".")[1]
        if room not in ALLOWED:
            return [f"{module}:1: {room} is no room: give it a floor in {Path(__file__).name}"]
        may = ALLOWED[room] | {room}
    found = []
    for line, name in imports(module, tree, is_package=is_package):
        head, _, rest = name.partition(".")
        target = rest.split(".")[0]
        if head == "telecast" and target not in may and (target in ALLOWED or not rest):
            found.append(f"{module}:{line}: {room or 'the package'} must not import {name}")
        if is_pure(module) and head in IMPURE:
            found.append(f"{module}:{line}: a pure room must not import {head}")
    for node in ast.walk(tree):
        if is_pure(module) and isinstance(node, ast.AsyncFunctionDef | ast.Await):
            found.append(f"{module}:{node.lineno}: a pure room awaits nothing")
        if room != READS_ENVIRONMENT and reads_environment(node):
            found.append(f"{module}:{node.lineno}: only {READS_ENVIRONMENT} reads the environment")
    return found


def reads_environment(node: ast.AST) -> bool:
    names = {"environ", "environb", "getenv", "getenvb"}
    if isinstance(node, ast.Attribute):
        return isinstance(node.value, ast.Name) and node.value.id == "os" and node.attr in names
    return (
        isinstance(node, ast.ImportFrom)
        and node.module == "os"
        and any(alias.name in names for alias in node.names)
    )


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(SOURCE.rglob("*.py")):
        parts = ["telecast", *path.relative_to(SOURCE).with_suffix("").parts]
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def test_every_module_keeps_to_its_room():
    found = [
        line
        for module, path in modules()
        for line in violations(
            module, path.read_text("utf-8"), is_package=path.name == "__init__.py"
        )
    ]
    assert not found, "\n".join(found)


def test_no_room_is_listed_that_is_not_there():
    listed = {room for floor in FLOORS for room in floor} | set(ONLY) | set(ALSO) | set(PURE)
    there = {module.removeprefix("telecast.") for module, _ in modules()}
    assert listed <= there, listed - there


def test_no_two_modules_import_each_other_by_whatever_way() -> None:
    """Also for types alone: who owns what can't be seen where two know each other."""
    there = dict(modules())
    needs: dict[str, set[str]] = {}
    for module, path in there.items():
        tree = ast.parse(path.read_text("utf-8"))
        names = {name for _, name in imports(module, tree, is_package=path.name == "__init__.py")}
        found = {name if name in there else name.rpartition(".")[0] for name in names}
        needs[module] = (found & there.keys()) - {module}
    while free := {module for module, those in needs.items() if not those & needs.keys()}:
        needs = {module: those for module, those in needs.items() if module not in free}
    assert not needs, sorted(needs)


def test_no_folder_holds_more_modules_than_one_can_take_in():
    for root in (SOURCE, Path(__file__).parents[3] / "tests"):
        for folder in {path.parent for path in root.rglob("*.py")}:
            assert len(list(folder.glob("*.py"))) <= MOST_MODULES, folder


def test_all_sources_are_looked_at():
    seen = {module for module, _ in modules()}
    assert {"telecast", "telecast.model", "telecast.config", "telecast.config.table"} <= seen


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("telecast.errors", "from telecast.model import Position"),
        ("telecast.model", "import telecast.channels"),
        ("telecast.channels.catalogue", "from telecast import protocol"),
        ("telecast.protocol.session", "from telecast.tape.tape import Tape"),
        ("telecast.journal.sqlite.journal", "from telecast.tape import tape"),
        ("telecast.tape.tape", "from telecast.journal.base import Journal"),
        ("telecast.fanout.sink", "from ..net import wire"),
        ("telecast.fanout.sink", "from .. import web"),
        ("telecast.config.table", "from telecast.keys import KeyStore"),
        ("telecast.logs", "import telecast.protocol.messages as m"),
        ("telecast.keys", "from telecast.config import Settings"),
        ("telecast.ingress", "from telecast.net.wire import Wire"),
        ("telecast.web.streams.ws", "from telecast.demo import market"),
        ("telecast.demo.market", "from telecast.web import ws"),
        ("telecast.web.streams.ws", "from telecast.app import create_app"),
        ("telecast.app", "from telecast.cli import main"),
        ("telecast.client.stream", "from telecast.channels import catalogue"),
        ("telecast.client.stream", "from telecast.config import from_environment"),
        ("telecast.web.streams.ws", "from telecast.client import Client"),
        ("telecast.web.streams.ws", "import telecast"),
        ("telecast.web.streams.ws", "def later():\n    from telecast.app import create_app"),
        ("telecast.model", "if TYPE_CHECKING:\n    from telecast.fanout import tape"),
        ("telecast", "from telecast.app import create_app"),
        ("telecast.utils", ""),
    ],
)
def test_a_planted_upward_import_is_found(module, source):
    assert len(violations(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("telecast.model", "import asyncio"),
        ("telecast.errors", "from time import monotonic"),
        ("telecast.protocol.framing", "import socket as s"),
        ("telecast.channels.catalogue", "async def f(): ..."),
        ("telecast.tape.tape", "class T:\n    async def since(self): ..."),
        ("telecast.tape.selection", "import asyncio.locks"),
        ("telecast.web.streams.ws", "import os\nx = os.environ['A']"),
        ("telecast.app", "import os\nx = os.getenv('A')"),
        ("telecast.keys.file", "from os import environ"),
    ],
)
def test_a_planted_impurity_is_found(module, source):
    assert len(violations(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("telecast.model", "from telecast.errors import PositionMalformed"),
        ("telecast.protocol.session", "from telecast.channels.catalogue import CATALOGUE"),
        ("telecast.journal.sqlite.journal", "from .base import Journal"),
        ("telecast.fanout.fetcher", "import asyncio\nasync def f(): ..."),
        ("telecast.fanout.tapes", "import time"),
        ("telecast.web.page", "from telecast import __version__"),
        ("telecast.cli.data.tail", "from telecast.client import Client"),
        ("telecast.config", "import os\nx = os.environ"),
        ("telecast.keys.file", "import os\nos.replace('a', 'b')"),
        ("telecast.ingress", "import telecasting"),
    ],
)
def test_what_is_allowed_is_left_alone(module, source):
    assert violations(module, source) == []


def test_relative_imports_of_a_package_start_at_itself():
    assert violations("telecast.keys", "from .file import stamp", is_package=True) == []
    assert violations("telecast.keys", "from ..web import ws", is_package=True)


NAMES_CHANNELS = {
    "telecast.recording": "ticks are what a recording of an exchange has",
    "telecast.system": "the service itself publishes to it",
    "telecast.client.client": "the types of a view of a built-in channel",
    "telecast.client.blocking.client": "likewise",
    "telecast.cli.run.bench": "a default, as the help says",
    "telecast.keys.file": "an example within a message",
}
"""Modules that name a channel, and why; `channels.builtin` and the demo's story do anyway."""


def test_nothing_names_a_channel_but_the_catalogue():
    """Else a channel of the user's own would be something less than a built-in one."""
    named = set()
    for module, path in modules():
        if module == "telecast.channels.builtin" or module.startswith("telecast.demo"):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and node.value in CHANNELS:
                named.add(module)
    assert named - {"telecast.cli.run.demo"} <= set(NAMES_CHANNELS), named - set(NAMES_CHANNELS)
