"""telecast tail: follow channels on the terminal, through drops and restarts."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from typing import Any, Literal
from urllib.parse import quote

import click

from telecast.cli.connection import asked, filter_option, gathered, run, service_options
from telecast.cli.data.history import events
from telecast.cli.exits import StrictViolation
from telecast.cli.moments import Since
from telecast.cli.output import let_go_of_stdout, note, plain, show
from telecast.cli.readable import event_line
from telecast.client import Dropped, ServerMessage, Stream, Watch
from telecast.client.connection.reports import Report


@click.command(name="tail")
@click.argument("channels", metavar="CHANNEL...", nargs=-1, required=True)
@service_options
@click.option("--ws", "transport", flag_value="ws", default="ws", help="By WebSocket, the default.")
@click.option("--sse", "transport", flag_value="sse", help="By Server-Sent Events.")
@click.option(
    "--since",
    "--from",
    "since",
    type=Since(),
    metavar="POSITION|TIME|earliest",
    help="Go on after a position or a time (10m: ten minutes ago; 09:55; an instant), or from the "
    "oldest event, instead of the rows as they are now.",
)
@click.option("--last", type=click.IntRange(1, 100_000), help="Begin with the last so many events.")
@click.option(
    "--delivery",
    type=click.Choice(["conflated", "all"]),
    help="In a catch-up: each row's newest state, or every event.  "
    "[default: conflated; with --last: all]",
)
@filter_option
@click.option("--max-rate", type=float, help="At most so many batches a second: 0.2 to 20.")
@click.option(
    "--count",
    type=click.IntRange(min=1),
    help="End after so many events; rows of a snapshot don't count.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Each event's JSON, as received; rows of a snapshot are marked. For `replay`.",
)
@click.option(
    "--strict",
    is_flag=True,
    help="Exit 5 on a gap, a reset, a seq that falls or repeats, or on conflation although "
    "--delivery all.",
)
def command(
    channels: tuple[str, ...],
    url: str,
    key: str | None,
    transport: Literal["ws", "sse"],
    since: str | None,
    last: int | None,
    delivery: Literal["conflated", "all"] | None,
    filters: tuple[tuple[str, str], ...],
    max_rate: float | None,
    count: int | None,
    as_json: bool,
    strict: bool,
) -> None:
    """Print each event of the CHANNELs on a line, until Ctrl-C; status goes to stderr.

    A line reads: time of the commit (UTC), channel, seq, op, key, payload. After a drop it
    resumes where it was, so that nothing is missed and nothing comes twice; it says so.
    """
    delivery = delivery or ("conflated" if last is None else "all")
    screen = _Screen(url, as_json=as_json, count=count)
    watch = Watch(delivery=delivery, resumed=since is not None) if strict else None
    names = names_of(channels)
    if last is not None:
        if since is not None:
            raise click.UsageError("--last and --since both say where to begin: give one.")
        since = start_of_last(last, url, key, names, filters)

    async def follow() -> None:
        stream = Stream(
            url,
            key,
            names,
            transport=transport,
            since=since,
            delivery=delivery,
            max_rate=max_rate,
            filters=gathered(filters),
            insist=False,
            report=screen.report,
        )
        async with stream:
            async for message in stream:
                screen.show(message)
                amiss = watch.see(message) if watch is not None else None
                if amiss is not None:
                    raise StrictViolation(f"{amiss}.")
                if screen.full:
                    chosen = [word for each in filters for word in _option(*each)]
                    if delivery == "all":
                        chosen += ["--delivery", "all"]
                    selected = shlex.join([*names, *chosen])
                    _say(f"what comes next: telecast tail {selected} --since {message.position}")
                    return

    try:
        run(follow())
    except KeyboardInterrupt:
        pass  # the usual way to end it
    except BrokenPipeError:
        let_go_of_stdout()


def _option(name: str, value: str) -> tuple[str, str]:
    return "--filter", f"{name}={value}"


def names_of(words: Iterable[str]) -> list[str]:
    """The channels of arguments, which may name several with commas. Raises BadParameter."""
    names = [name for word in words for name in word.split(",") if name]
    if not names:
        raise click.BadParameter("Name at least one channel.", param_hint="CHANNEL")
    return names


class _Screen:
    """What is shown where: events on stdout, all else on stderr."""

    def __init__(self, url: str, *, as_json: bool, count: int | None) -> None:
        self._url = url
        self._as_json = as_json
        self._left = count

    @property
    def full(self) -> bool:
        return self._left == 0

    def show(self, message: ServerMessage) -> None:
        body = message.body
        match message.type:
            case "event":
                # Flushed with each line: whoever reads a pipe wants it now.
                show(json_line(message) if self._as_json else event_line(body))
                if self._left is not None and not message.is_row:
                    self._left -= 1
            case "welcome":
                _say(f"connected to {self._url} as {body.get('connectionId')}, {body.get('head')}")
            case "ack":
                for each in body.get("rejected") or ():
                    _say(f"rejected {each.get('channel')}: {each.get('message')}")
            case "snapshot":
                _say(f"snapshot of {_names(body)} ({body.get('reason')})")
            case "resume":
                _say(f"resumed at {body.get('from')}: {_names(body)}")
            case "live":
                _say(f"live at {body.get('position')}, after {body.get('count')} events")
            case "gap":
                _say(f"gap: {body.get('channel')} lost {_range(body)}")
            case "conflated":
                left_out = body.get("count")
                known = f", {left_out} events" if left_out is not None else ""
                _say(f"conflated: left out within {_range(body)}{known}")
            case "error":
                _say(f"error {body.get('code')}: {body.get('message')}")
            case _:
                pass  # a notice is printed with the end that it announces

    def report(self, report: Report) -> None:
        if isinstance(report, Dropped):
            _say(f"{report.reason}; reconnecting in {report.delay:.1f} s")


def start_of_last(
    count: int, url: str, key: str | None, names: Sequence[str], filters: Iterable[tuple[str, str]]
) -> str:
    """The position before the last `count` events of all these channels together."""
    filters = list(filters)
    page = asked(url, key, "GET", f"channels/{quote(names[0], safe='')}/events")
    epoch = str(page["position"]).partition(":")[0]
    for begin in ("-1m", "-15m", "-4h", "-2d", "-9999d"):
        found = sorted(
            int(event["seq"])
            for name in names
            for event in events(url, key, name, begin=begin, filters=filters)
        )
        if len(found) > count:
            return f"{epoch}:{found[-count - 1]}"
    return "earliest"


def json_line(message: ServerMessage) -> bytes:
    """The event as received; a row of a snapshot, which is older than its place, says so."""
    return message.raw[:-1] + b',"snapshot":true}' if message.is_row else message.raw


def _names(body: dict[str, Any]) -> str:
    return ", ".join(map(str, body.get("channels") or ()))


def _range(body: dict[str, Any]) -> str:
    return f"{body.get('fromSeq')} to {body.get('toSeq')}"


def _say(text: str) -> None:
    note(f"# {plain(text)}")
