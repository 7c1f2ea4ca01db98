"""What the commands that talk to a running service have in common."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

import click

from telecast.cli.exits import Unreachable
from telecast.client import Publisher, faults
from telecast.client.connection.http import base_of, check_key
from telecast.config import from_environment

DEFAULT_URL = "http://127.0.0.1:8080"

ASK_SECONDS = 15.0
"""How long an operator's question is repeated while the service is busy."""

T = TypeVar("T")
Command = Callable[..., Any]


class Address(click.ParamType[str]):
    """The service's address, such as https://telemetry.example:8443."""

    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return str(base_of(str(value)))
        except ValueError as fault:
            self.fail(str(fault), param, ctx)


class Key(click.ParamType[str]):
    """A key as `telecast keys new` printed it."""

    name = "key"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return check_key(str(value).strip())
        except ValueError as fault:
            self.fail(str(fault), param, ctx)


class Filter(click.ParamType[tuple[str, str]]):
    """`field=value`; the same field again adds a value, another field narrows further."""

    name = "field=value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        field, equals, wanted = str(value).partition("=")
        if not (field and equals and wanted):
            self.fail(f"{value!r} does not read field=value, such as symbol=BTCUSDT.", param, ctx)
        return field, wanted


filter_option = click.option(
    "--filter",
    "filters",
    multiple=True,
    type=Filter(),
    help="Only rows with this, such as traderId=t1. Repeated: OR within a field, AND between.",
)


key_option = click.option(
    "--key",
    type=Key(),
    default=lambda: from_environment("TELECAST_KEY"),
    show_default=False,
    help="The key to show. The variable keeps it out of lists of processes.  [TELECAST_KEY]",
)


def service_options(command: Command) -> Command:
    """Give the command `--url` and `--key`; they arrive as `url` and `key`."""
    command = key_option(command)
    return click.option(
        "--url",
        type=Address(),
        default=lambda: from_environment("TELECAST_URL") or DEFAULT_URL,
        show_default=False,
        help=f"Where the service is.  [TELECAST_URL; default: {DEFAULT_URL}]",
    )(command)


def asked(
    url: str,
    key: str | None,
    method: str,
    path: str,
    params: Iterable[tuple[str, str | None]] = (),
    body: Any = None,
) -> Any:
    """One call of the REST API: the `data` of the answer. Parameters that are None are left out."""

    async def ask() -> Any:
        async with Publisher(url, key, insist=False, patience=ASK_SECONDS) as publisher:
            given = [(name, value) for name, value in params if value is not None]
            return await publisher.call(method, path, given, body)

    return run(ask())


def gathered(filters: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for field, value in filters:
        found.setdefault(field, []).append(value)
    return found


def run(
    work: Coroutine[Any, Any, T], *, by: Callable[[Coroutine[Any, Any, T]], T] = asyncio.run
) -> T:
    """Run it to its end. What nobody answered becomes the exit code that says so.

    `by` is what runs it: asyncio.run, or uvloop.run where speed is what the command is for.
    """
    try:
        return by(work)
    except faults.Unreachable as fault:
        advice = "Check the address, and that the service runs: telecast serve, or telecast demo."
        raise Unreachable(f"{fault.message}\n{advice}") from None
