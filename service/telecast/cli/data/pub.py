"""telecast pub: publish from the command line or a pipe."""

from __future__ import annotations

import codecs
import re
import sys
import uuid
from pathlib import Path
from typing import Any

import click
import orjson

from telecast.cli.connection import run, service_options
from telecast.cli.exits import Exit
from telecast.cli.output import note, show
from telecast.client import Publisher, Refused, Unreachable
from telecast.errors import Code, PeerFault

PATIENCE_SECONDS = 60.0
"""How long it waits for a service that is away or busy."""


class Scope(click.ParamType[str]):
    """`field=value`: the rows that a batch replaces; `field:value`, as in REST, is taken too."""

    name = "field=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        match = re.fullmatch(r"([^=:]+)[=:](.+)", str(value), re.DOTALL)
        if match is None:
            self.fail(f"{value!r} does not read field=value, such as traderId=t1.", param, ctx)
        return f"{match[1]}:{match[2]}"


@click.command(name="pub")
@click.argument("channel")
@click.argument("source", metavar="[JSON|-|@FILE]", default="-")
@service_options
@click.option("--idempotency-key", metavar="TEXT", help="A repeat under the same is one publish.")
@click.option(
    "--replace",
    type=Scope(),
    help="Withdraw all rows of this scope that the batch lacks, such as traderId=t1.",
)
@click.option(
    "--wait",
    is_flag=True,
    help=f"Wait up to {PATIENCE_SECONDS:g} s for a service that is not there yet.",
)
@click.option("--json", "as_json", is_flag=True, help="The receipt as JSON.")
def command(
    channel: str,
    source: str,
    url: str,
    key: str | None,
    idempotency_key: str | None,
    replace: str | None,
    wait: bool,
    as_json: bool,
) -> None:
    """Publish to CHANNEL: one JSON object, an array of them, or NDJSON; all of it, or nothing.

    The payload is the argument, @FILE, or what stdin gives. It is repeated while the service
    restarts, and arrives once all the same.
    """
    payloads = payloads_of(_read(source))
    once = idempotency_key or uuid.uuid4().hex
    tries = 0

    def waiting(fault: Refused | Unreachable, delay: float) -> None:
        nonlocal tries
        tries += 1
        note(f"# {fault.message} Trying again in {delay:.1f} s")

    async def publish() -> dict[str, Any]:
        async with Publisher(
            url, key, patience=PATIENCE_SECONDS, insist=wait, report=waiting
        ) as publisher:
            return await publisher.publish(channel, payloads, idempotency_key=once, replace=replace)

    try:
        receipt = run(publish())
    except Refused as refused:
        if refused.code == Code.VALIDATION_FAILED and _tell_problems(refused.details):
            sys.exit(Exit.ERROR)
        if refused.retryable:
            _tell_repeat(once)
        raise
    except click.ClickException:
        if tries:
            _tell_repeat(once)
        raise
    show(orjson.dumps(receipt) if as_json else _receipt_line(channel, receipt))


def payloads_of(text: bytes) -> list[dict[str, Any]]:
    """One object, an array of objects, or an object a line. Raises PeerFault BAD_JSON."""
    text = text.removeprefix(codecs.BOM_UTF8)
    try:
        whole = orjson.loads(text)
    except orjson.JSONDecodeError as fault:
        lines = [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
        if len(lines) < 2:
            raise PeerFault(Code.BAD_JSON, f"The payload is not JSON: {fault}") from None
        return [_line(number, line) for number, line in lines]
    items = whole if isinstance(whole, list) else [whole]
    for number, item in enumerate(items):
        if not isinstance(item, dict):
            raise PeerFault(Code.BAD_JSON, f"Item {number} is no JSON object: a payload is one.")
    return items


def _line(number: int, line: bytes) -> dict[str, Any]:
    try:
        item = orjson.loads(line)
    except orjson.JSONDecodeError as fault:
        raise PeerFault(Code.BAD_JSON, f"Line {number} is not JSON: {fault}") from None
    if not isinstance(item, dict):
        raise PeerFault(Code.BAD_JSON, f"Line {number} is no JSON object: a payload is one.")
    return item


def _read(source: str) -> bytes:
    if source.startswith("@"):
        try:
            return Path(source[1:]).read_bytes()
        except OSError as fault:
            raise click.BadParameter(f"{source[1:]}: {fault.strerror}") from None
    if source != "-":
        return source.encode()
    if sys.stdin.isatty():
        raise click.UsageError("Give the payload as JSON or @FILE, or pipe it in.")
    piped = sys.stdin.buffer.read()
    if not piped.strip():
        raise click.UsageError("Standard input was empty. Give the payload as JSON or @FILE.")
    return piped


def _receipt_line(channel: str, receipt: dict[str, Any]) -> str:
    line = f"published {receipt.get('accepted')} to {channel}, position {receipt.get('position')}"
    if receipt.get("duplicate"):
        return f"{line}: a repeat, nothing was added"
    # Those of the node that took it: it does not know of others' when it answers.
    return f"{line}, live subscribers here: {receipt.get('subscribers')}"


def _tell_problems(details: Any) -> bool:
    """Each bad field on a line; False where the answer lists none."""
    problems = details.get("problems") if isinstance(details, dict) else None
    if not problems:
        return False
    for each in problems:
        field = f", {each.get('field')}" if each.get("field") else ""
        note(f"Error: item {each.get('item')}{field}: {each.get('message')}")
    more = details.get("total", len(problems)) - len(problems)
    if more > 0:
        note(f"and {more} more")
    note("Nothing was published. Correct these fields; items count from 0.")
    return True


def _tell_repeat(once: str) -> None:
    note(f"To repeat it without doing it twice, add --idempotency-key {once}")
