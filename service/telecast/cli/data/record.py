"""telecast record: what comes on channels, into a file that `telecast replay` takes."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import click

from telecast.channel_file import read_catalogue
from telecast.cli.connection import filter_option, gathered, run, service_options
from telecast.cli.data.tail import names_of
from telecast.cli.moments import Since
from telecast.cli.output import note
from telecast.client import Dropped, ServerMessage, Stream
from telecast.client.connection.reports import Report
from telecast.config import load_one
from telecast.recording import Recorder, Timed, line_of, replaces


@click.command(name="record")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("channels", metavar="CHANNEL...", nargs=-1, required=True)
@service_options
@click.option(
    "--since",
    type=Since(),
    metavar="POSITION|TIME|earliest",
    help="Begin after a position or a time, or with the oldest event, instead of the rows as they "
    "are now.",
)
@filter_option
@click.option("--count", type=click.IntRange(min=1), help="End after so many events.")
def command(
    file: Path,
    channels: tuple[str, ...],
    url: str,
    key: str | None,
    since: str | None,
    filters: tuple[tuple[str, str], ...],
    count: int | None,
) -> None:
    """Record the CHANNELs into FILE until Ctrl-C: every event, at the pace of the commits.

    `telecast replay FILE` publishes it again, here or elsewhere. FILE must not exist yet. The rows
    as they are at the beginning come first, all at once. After a drop it goes on where it was.
    """
    names = names_of(channels)
    try:
        out = file.open("xb")
    except FileExistsError:
        raise click.UsageError(f"{file} exists already: name another file.") from None
    except OSError as fault:
        raise click.BadParameter(f"{file}: {fault.strerror}", param_hint="FILE") from None

    async def follow(tape: _Tape) -> None:
        stream = Stream(
            url,
            key,
            names,
            since=since,
            delivery="all",
            filters=gathered(filters),
            insist=False,
            report=_report,
        )
        async with stream:
            async for message in stream:
                tape.take(message)
                if count is not None and tape.events >= count:
                    return

    with out:
        tape = _Tape(out)
        try:
            run(follow(tape))
        except KeyboardInterrupt:
            pass  # the usual way to end it
        finally:
            tape.end()
            note(f"{tape.written} lines in {file}, of them {tape.events} live events")


class _Tape:
    """Holds the last line back: a row that moves between filters is two events and one line."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._recorder = Recorder(read_catalogue(load_one("channels", {})))
        self._held: Timed | None = None
        self.written = 0
        self.events = 0

    def take(self, message: ServerMessage) -> None:
        if message.type == "gap":
            note(f"# gap: {message.body.get('channel')} lacks events that no longer exist")
        if message.type != "event":
            return
        timed = self._recorder.take(message.body, is_row=message.is_row)
        self.events += not message.is_row
        if self._held is not None and replaces(self._held, timed):
            self._held = None
        self._write()
        self._held = timed

    def end(self) -> None:
        self._write()

    def _write(self) -> None:
        if self._held is not None:
            self._out.write(line_of(self._held) + b"\n")
            self._out.flush()
            self.written += 1
            self._held = None


def _report(report: Report) -> None:
    if isinstance(report, Dropped):
        note(f"# {report.reason}; reconnecting in {report.delay:.1f} s")
