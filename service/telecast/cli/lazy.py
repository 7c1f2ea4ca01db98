"""A group of commands whose modules are imported when they are called, not before."""

from __future__ import annotations

import importlib
import io
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import click

from telecast.cli.exits import Exit, exit_for, lines_for
from telecast.cli.output import let_go_of_stdout, lines, note, prepare
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

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, *, standalone_mode: bool = True, **more: Any
    ) -> Any:
        """As click's own; what it prints of faults is safe for a terminal too."""
        if not standalone_mode:
            return super().main(args, standalone_mode=False, **more)
        prepare()
        try:
            _check_encoding(sys.argv[1:] if args is None else args)
            done = super().main(args, standalone_mode=False, **more)
        except click.ClickException as fault:
            words = io.StringIO()
            fault.show(words)
            note(lines(words.getvalue().rstrip("\n")))
            sys.exit(fault.exit_code)
        except (click.Abort, KeyboardInterrupt):
            note("Aborted!")
            sys.exit(Exit.ERROR)
        except BrokenPipeError:
            let_go_of_stdout()
            sys.exit(Exit.ERROR)
        sys.exit(done if isinstance(done, int) else Exit.OK)

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
                note(lines(line))
            ctx.exit(exit_for(error))


def _check_encoding(args: Sequence[str]) -> None:
    """Raises UsageError for an argument that is no UTF-8: no address, name or JSON can be."""
    for number, arg in enumerate(args, 1):
        try:
            arg.encode()
        except UnicodeEncodeError:
            raise click.UsageError(
                f"Argument {number} is not UTF-8: {arg.encode(errors='backslashreplace').decode()}"
            ) from None
