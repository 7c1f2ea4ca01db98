"""telecast demo: a service on loopback with its own key and paper traders, ready to look at."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hmac
import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import uvloop

from telecast.app import create_app, parts_of
from telecast.channels.catalogue import CHANNELS
from telecast.cli.options import settings_options
from telecast.cli.output import note, show
from telecast.config import Settings, load_settings
from telecast.demo.connectivity import CORE, EXCHANGE
from telecast.demo.desk import TRADERS, Instrument, hire, liveliest
from telecast.demo.floor import TradingFloor
from telecast.demo.market import SOURCE, instruments, market
from telecast.demo.pace import Pace
from telecast.demo.risk import DESK
from telecast.demo.traders import Outgoing
from telecast.errors import Code, OwnFault, PeerFault
from telecast.ingress import Ingress, Scope
from telecast.keys import KeyStore
from telecast.keys.secret import signing_secret
from telecast.logs import configure
from telecast.model import SCOPES, Principal, Row
from telecast.recording import TICKS, RecordingFault, Timed, read_recording
from telecast.server import serve_until_stopped
from telecast.tape.tape import Tape
from telecast.web.auth.cookies import sign_in_link
from telecast.web.front.answers import retry_after

TURN_SECONDS = 0.02
"""Ticks that are due within this are published together, as a feed handler would."""
BEAT_SECONDS = 0.25
"""Between two looks at the clock when no tick is due."""
TURN_TICKS = 25
"""Ticks of one turn: about 2 ms of work on the floor, so that it never holds the loop."""
LATE_SECONDS = 1.0
"""Later than this, the tape is held back: a journal that is slow, or a laptop that slept, makes
the market slow, and never a flood."""
ROUND_SECONDS = 1.0
"""Between the last tick of a recording and its first one again."""
DRAIN_SECONDS = 1
"""At Ctrl-C; there are few clients to spread."""

KEY_ID = "de300000"
FIRST = {"system": 0, "market-data": 1}
"""The channels whose rows of a turn are published before all others."""

TimedRow = tuple[float, Row]
"""Seconds since the tape began, and a market-data payload that is yet to be stamped."""


@click.command(name="demo")
@settings_options(only=("port", "allowed_origins", "log_format", "log_level"))
@click.option(
    "--journal",
    metavar="JOURNAL",
    help="Where events are kept: memory: or sqlite:PATH.  [default: memory:]",
)
@click.option(
    "--ticks",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Recorded ticks (NDJSON, as for `telecast replay`) instead of the synthetic market.",
)
@click.option(
    "--speed",
    type=click.FloatRange(0.01, 1000),
    default=1.0,
    show_default=True,
    help="Times the tape's own pace.",
)
@click.option("--loop", is_flag=True, help="The recorded ticks again and again.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of market and traders.")
def command(ticks: Path | None, speed: float, loop: bool, seed: int, **flags: Any) -> None:
    """Serve on loopback with a key of its own, and let paper traders trade; Ctrl-C ends it.

    All channels show one story: prices move, traders open and close positions, break limits and
    are paused for it. Nothing is kept unless --journal names a file. Then clients resume after a
    restart, with the same key, which is in FILE.demo beside the journal. The traders begin anew:
    what they had open is taken away first.
    """
    if loop and ticks is None:
        raise click.UsageError("--loop goes with --ticks: the synthetic market never ends.")
    settings = _settings(flags)
    if ticks is None:
        listed: Sequence[Instrument] = instruments()
        tape, source = market(seed), f"a synthetic market (seed {seed})"
    else:
        recorded = _recorded(ticks)
        listed = liveliest(item.payload for item in recorded)
        tape, source = _played(recorded, loop=loop), f"{len(recorded):,} ticks of {ticks}"
    configure(settings.log_format, settings.log_level)
    principal = Principal(key_id=KEY_ID, name="demo", scopes=frozenset(SCOPES))
    secret = _secret(settings.journal)
    known = {} if secret is None else {KEY_ID: _key_from(secret)}
    keys, secrets = KeyStore.of(principal, now=time.time, known=known)
    app = create_app(settings, keys=keys, secret=secret)

    async def started(url: str) -> None:
        link = url + sign_in_link(parts_of(app), principal.key_id)
        show(_greeting(url, link, secrets[principal.key_id], source))
        sys.stdout.flush()

    async def play() -> None:
        parts = parts_of(app)
        player = Player(parts.ingress, principal)
        if left := await player.sweep(parts.tape):
            show(
                "The traders begin anew: what the last run left open was taken away "
                f"({left} rows of positions and risk-alerts)."
            )
        await player.play(((at / speed, row) for at, row in tape), listed, seed=seed)
        show("The tape is over; everything stays to be looked at until Ctrl-C.")

    uvloop.run(serve_until_stopped(app, settings, started, beside=play))


def _settings(flags: dict[str, Any]) -> Settings:
    """The demo's own choices, whatever the environment says of the real service's address."""
    given = {name: value for name, value in flags.items() if value is not None}
    own = {"journal": "memory:", "log_level": "warning", "drain_seconds": DRAIN_SECONDS}
    settings = load_settings({**own, **given, "host": "127.0.0.1"})
    return dataclasses.replace(settings, tls_cert=None, tls_key=None, behind_proxy=False)


def _secret(journal: str) -> bytes | None:
    """What signs sessions and makes the key, kept beside a journal that is a file."""
    scheme, _, path = journal.partition(":")
    return signing_secret(Path(f"{path}.demo")) if scheme == "sqlite" and path else None


def _key_from(secret: bytes) -> str:
    return f"tc_{KEY_ID}_{hmac.new(secret, b'the key of the demo', 'sha256').hexdigest()}"


def _own_command() -> str:
    """`telecast`, as the reader's own shell finds it: `dev.py demo` runs it in a hidden folder."""
    prefix = Path(sys.prefix)
    if prefix.parts[-2:] == (".tox", "demo"):
        return str(prefix / "bin" / "telecast")
    return "telecast"


def _greeting(url: str, link: str, key: str, source: str) -> str:
    return f"""
Telecast is live, with {len(TRADERS)} paper traders on {source}. Look at it:

  {link}
  (signs in once, within ten minutes; after that sign in with the key below)

  curl -N -H 'X-API-Key: {key}' '{url}/sse/telemetry'

  {_own_command()} tail positions risk-alerts trader-status --url {url} --key {key}

Ctrl-C ends it.
"""


# --- the tape


def _recorded(path: Path) -> list[Timed]:
    """The ticks of a recording. Raises RecordingFault with the number of each bad line."""
    items = [item for item in read_recording(path, CHANNELS) if item.channel == TICKS]
    if not items:
        raise RecordingFault([f"{path} has no ticks: no line is of {TICKS}."])
    return items


def _played(items: Sequence[Timed], *, loop: bool) -> Iterator[TimedRow]:
    start = 0.0
    while True:
        for item in items:
            yield start + item.t, {**item.payload, "source": SOURCE}
        if not loop:
            return
        start += items[-1].t + ROUND_SECONDS


class Player:
    """Lets a tape run on the floor and publishes what comes of it, like any other publisher.

    One publish is committed before the next is made, so it is never faster than the journal.
    """

    def __init__(self, ingress: Ingress, principal: Principal) -> None:
        self._ingress = ingress
        self._principal = principal
        self._began = int(time.time() * 1000)
        self._from = time.monotonic()

    async def sweep(self, tape: Tape) -> int:
        """Take away what an earlier demo has left in this journal; others' rows stay. Returns how
        many rows of its traders that were."""
        open_rows = 0
        for channel in ("positions", "risk-alerts"):
            for trader in TRADERS:
                open_rows += await self._publish(channel, [], Scope("traderId", trader))
        left = [
            ("risk-alerts", event.key)
            for event in tape.logs["risk-alerts"].rows.values()
            if event.key.startswith(f"{DESK}:") and event.fields["traderId"] is None
        ]
        left += [
            ("market-data", event.key)
            for event in tape.logs["market-data"].rows.values()
            if event.row["source"] == SOURCE
        ]
        left += [
            ("system", event.key)
            for event in tape.logs["system"].rows.values()
            if event.key == CORE or event.key.startswith(EXCHANGE)
        ]
        for channel, key in left:
            with contextlib.suppress(PeerFault):  # somebody else has been as tidy: ROW_NOT_FOUND
                await self._ingress.withdraw(self._principal, channel, key)
        return open_rows

    async def play(
        self, tape: Iterator[TimedRow], listed: Sequence[Instrument], *, seed: int
    ) -> None:
        """To the tape's end, which the synthetic market has none of."""
        floor, pace = TradingFloor(hire(listed), seed=seed, started=self._now()), Pace()
        await self._send(floor.open(self._now()))
        start = time.monotonic()
        following = next(tape, None)
        while following is not None:
            now, rows, taken = self._now(), list[Outgoing](), 0
            while following is not None and taken < TURN_TICKS and _left(start, following) <= 0:
                rows += floor.tick(now, following[1])
                following = next(tape, None)
                taken += 1
            rows += floor.beat(now)
            await self._send(pace.through(now, rows))
            if following is not None:
                left = _left(start, following)
                if left < -LATE_SECONDS:
                    start -= left
                least = TURN_SECONDS if taken < TURN_TICKS else 0
                await asyncio.sleep(min(BEAT_SECONDS, max(least, left)))
        await self._send(pace.through(self._now(), floor.end(self._now())))

    def _now(self) -> int:
        """Milliseconds since 1970; they never fall, whatever is done to the clock."""
        return self._began + int((time.monotonic() - self._from) * 1000)

    async def _send(self, rows: list[Outgoing]) -> None:
        """Which exchange answers, then prices, then what they did, in its order."""
        rows.sort(key=lambda each: FIRST.get(each[0], len(FIRST)))
        for channel, some in itertools.groupby(rows, key=lambda each: each[0]):
            await self._publish(channel, [row for _, row in some])

    async def _publish(self, channel: str, rows: list[Row], replace: Scope | None = None) -> int:
        """Until it is committed: with a close left out, its position would stay for ever. Returns
        how many events it came to."""
        waits = False
        while True:
            try:
                done = await self._ingress.publish(self._principal, channel, rows, replace=replace)
            except OwnFault as fault:
                if fault.code == Code.SHUTTING_DOWN:
                    raise
                if not waits:
                    note(f"The market waits: {fault.message}")
                waits = True
                await asyncio.sleep(retry_after(fault))
            else:
                return done.receipt.count


def _left(start: float, following: TimedRow) -> float:
    """Seconds until it is due."""
    return start + following[0] - time.monotonic()
