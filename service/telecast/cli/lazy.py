"""A group of commands whose modules are imported when they are called, not before."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import click

from telecast.cli.exits import exit_for, lines_for
from telecast.errors import TelecastError


class Lazy(NamedTuple):
    """Where a command lives: the module holds it as `command`. `help` is its line in the list."""

    module: str
    help: str


class LazyGroup(click.Group):
    """Knows its commands by name and one line, so that `--help` imports none of them.

    It is also where errors of ours become lines on stderr and an exit code; what is none of ours
    is a bug and keeps its traceback.
    """

    def __init__(self, *args: Any, lazy: Mapping[str, Lazy], **options: Any) -> None:
        super().__init__(*args, **options)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._lazy:
            return None
        module = importlib.import_module(self._lazy[cmd_name].module)
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:  # click looks for the nearest among imported ones
            raise click.NoSuchCommand(
                error.command_name, possibilities=self._lazy, ctx=ctx
            ) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.help) for name, lazy in self._lazy.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except TelecastError as error:
            for line in lines_for(error):
                click.echo(line, err=True)
            ctx.exit(exit_for(error))
