"""`telecast journal`: what an operator does with a journal's file."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import orjson

from telecast.channel_file import read_catalogue
from telecast.cli.options import ACCESS, access_from, settings_options
from telecast.cli.output import note, show
from telecast.config import load_one
from telecast.errors import SettingsError
from telecast.journal import nats_installed
from telecast.journal.jetstream.address import parse_address
from telecast.journal.sqlite.info import Info, info
from telecast.journal.sqlite.restored import restored
from telecast.journal.sqlite.upkeep import Progress, backup, check, compact
from telecast.model import rfc3339

STEPS = 1000
"""Of a progress bar."""
_UNITS = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))

journal_option = click.option(
    "--journal",
    "flag",
    metavar="sqlite:PATH|nats://HOST:4222/NAME",
    help="The journal; of a nats:// one, this node's copy.  [TELECAST_JOURNAL; default: "
    "sqlite:telecast.db]",
)
optional_file = click.argument("file", type=click.Path(), required=False)


@click.group(name="journal")
def command() -> None:
    """Look after the journal: back it up, check it, see what it holds, compact it, move it."""


@command.command(name="backup")
@click.argument("file", type=click.Path())
@journal_option
def backup_(file: str, flag: str | None) -> None:
    """Copy the journal to a new FILE and check the copy. The service may go on meanwhile."""
    path = _path(None, flag)
    with _bar("copying") as progress:
        found = backup(path, file, progress)
    note(
        f"{file} holds {path} up to {found.head}: {_size(found.file_bytes)}, {found.entries} "
        f"events, each checked. Before a service starts on it: telecast journal restored {file}"
    )


@command.command(name="check")
@optional_file
@journal_option
def check_(file: str | None, flag: str | None) -> None:
    """Read all of the journal, or of FILE, and compare it with its checksums. Changes nothing."""
    path = _path(file, flag)
    with _bar("checking") as progress:
        found = check(path, progress)
    note(
        f"{path} is sound: epoch {found.epoch}, head {found.head}, {found.entries} events, "
        f"{found.keys} idempotency keys, {found.notes} notes."
    )


@command.command(name="info")
@optional_file
@journal_option
@click.option(
    "--channels",
    type=click.Path(path_type=Path),
    help="With the retention of this channels file.  [TELECAST_CHANNELS]",
)
@click.option("--json", "as_json", is_flag=True, help="As a JSON object.")
def info_(file: str | None, flag: str | None, channels: Path | None, as_json: bool) -> None:
    """Show what the journal, or FILE, holds, and what its channels may come to cost."""
    path = _path(file, flag)
    found = info(path)
    kept = read_catalogue(load_one("channels", {"channels": channels})).retention
    costs = {
        each.name: found.cost(each, kept[each.name]) for each in found.channels if each.name in kept
    }
    if as_json:
        body: dict[str, Any] = dataclasses.asdict(found)
        for each in body["channels"]:
            cost = costs.get(each["name"])
            each["atRetention"] = None if cost is None else dataclasses.asdict(cost)
        show(orjson.dumps(body, option=orjson.OPT_INDENT_2))
        return
    for line in _described(path, found):
        show(line)
    cells = [
        [
            "CHANNEL",
            "EVENTS",
            "ROWS",
            "PAYLOAD",
            "OLDEST",
            "NEWEST",
            "KEPT AT MOST",
            "DISK THEN",
            "START THEN",
        ]
    ]
    for each in found.channels:
        cost = costs.get(each.name)
        cells.append(
            [
                each.name,
                f"{each.events:,}",
                f"{each.rows:,}",
                _size(each.payload_bytes),
                rfc3339(each.oldest / 1000),
                rfc3339(each.newest / 1000),
                *(
                    ("see --channels", "-", "-")
                    if cost is None
                    else (f"{cost.events:,}", _size(cost.disk_bytes), f"{cost.start_seconds:.1f} s")
                ),
            ]
        )
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        show("  ".join(padded).rstrip())


@command.command(name="compact")
@optional_file
@journal_option
def compact_(file: str | None, flag: str | None) -> None:
    """Give back the disk space that trimmed events have left. The service must be stopped."""
    path = _path(file, flag)
    with _bar("compacting") as progress:
        before, after = compact(path, progress)
    note(f"{path} has {_size(after)} now, {_size(before)} before.")


@command.command(name="restored")
@click.argument("file", type=click.Path())
@settings_options(only=ACCESS)
def restored_(file: str, **flags: Any) -> None:
    """Say that FILE, or the stream nats://HOST:4222/NAME, was put back from a copy: a new epoch.

    To be done before the service starts on it. Else it would use the numbers after the copy a
    second time, for other events; with a new epoch clients start over with a snapshot. A node's
    copy becomes a journal by it. For a stream all nodes are stopped, and their copies moved away.
    """
    if file.startswith(("nats://", "tls://")):
        with nats_installed():
            from telecast.journal.jetstream.move import restored as restored_stream

        made = asyncio.run(restored_stream(parse_address(file), access_from(flags)))
        if made is None:
            note(f"{file} is whole: nodes without a copy make one from it alone.")
        else:
            note(f"{file} has a checkpoint up to {made.head}. Its epoch is {made.epoch} now.")
        return
    done = restored(file)
    note(
        f"{file} ends at {done.head}. Its epoch is {done.epoch} now, not {done.was} any more: "
        "clients start over with a snapshot."
    )


@command.command(name="move")
@click.argument("source", metavar="sqlite:PATH")
@click.argument("target", metavar="nats://HOST:4222/NAME")
@settings_options(only=("replicas", *ACCESS))
def move_(source: str, target: str, **flags: Any) -> None:
    """Move a SQLite journal into a stream, which several nodes share. The service must be stopped.

    Epoch and numbers stay, so clients go on where they were. SOURCE is left as it was, and no
    service starts on it any more. Killed in the middle, the same command does the rest.
    """
    with nats_installed():
        from telecast.journal.jetstream.move import move

    scheme, _, path = source.partition(":")
    if scheme != "sqlite" or not path:
        raise SettingsError([f"The source is sqlite:PATH, not {source!r}."])
    address = parse_address(target)
    replicas = load_one("replicas", flags)
    done = asyncio.run(
        move(os.path.expanduser(path), address, access_from(flags), replicas=replicas)
    )
    note(
        f"{path} is {'in' if done.again else 'now in'} {address}: epoch {done.epoch}, head "
        f"{done.head}. Start each node with --journal {address}"
    )


@command.command(name="copy")
@click.argument("file", type=click.Path())
@journal_option
@settings_options(only=ACCESS)
def copy_(file: str, flag: str | None, **flags: Any) -> None:
    """Fetch the newest checkpoint of a nats:// journal as a new FILE. No node needs to run.

    It can be a node's copy (--journal-copy FILE), or a backup.
    """
    with nats_installed():
        from telecast.journal.jetstream.move import fetch_copy

    address = parse_address(load_one("journal", {"journal": flag}))
    made = asyncio.run(fetch_copy(address, access_from(flags), file))
    note(
        f"{file} is a copy of {address} up to message {made.sequence}: epoch {made.epoch}, head "
        f"{made.head}, {_size(made.size)}. As a node's copy: --journal-copy {file}. As a backup: "
        f"telecast journal restored {file} makes a journal of it."
    )


def _path(file: str | None, flag: str | None) -> str:
    if file is not None:
        return file
    url: str = load_one("journal", {"journal": flag})
    scheme, _, path = url.partition(":")
    if scheme in ("nats", "tls"):
        return str(load_one("journal_copy", {}))
    if scheme != "sqlite":
        raise SettingsError([f"The journal {url} has no file: name one, or --journal sqlite:PATH."])
    return os.path.expanduser(path)


@contextmanager
def _bar(label: str) -> Iterator[Progress]:
    """A progress bar on stderr where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    with click.progressbar(length=STEPS, label=label, file=sys.stderr) as bar:
        yield _advancing(bar.update)


def _advancing(update: Callable[[int], None]) -> Progress:
    shown = 0

    def progress(done: int, total: int) -> None:
        nonlocal shown
        now = STEPS * done // max(1, total)
        if now > shown:
            update(now - shown)
            shown = now

    return progress


def _described(path: str, found: Info) -> Iterator[str]:
    yield f"{path}: format {found.format}, epoch {found.epoch}, head {found.head}"
    yield (
        f"{found.events:,} events, {found.idempotency_keys:,} idempotency keys, "
        f"{sum(found.notes.values()):,} notes"
    )
    yield (
        f"file {_size(found.file_bytes)}, of which {_size(found.free_bytes)} free; "
        f"log {_size(found.log_bytes)}"
    )


def _size(count: int) -> str:
    for unit, name in _UNITS:
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} B"
