"""telecast doctor: tries what a client needs, and names what is in the way and the fix."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import aiohttp
import click
import orjson
from yarl import URL

from telecast import __version__
from telecast.cli.connection import DEFAULT_URL, Address, key_option, run
from telecast.cli.exits import Exit
from telecast.cli.options import ACCESS, access_from, settings_options
from telecast.cli.output import plain, show
from telecast.cli.run.bench import is_loopback
from telecast.cli.trouble import Trouble
from telecast.client.connection.http import LOST, below, words
from telecast.config import from_environment, load_one
from telecast.errors import TelecastError
from telecast.journal import nats_installed
from telecast.journal.jetstream.address import Access, parse_address
from telecast.journal.jetstream.address import Address as LogAddress
from telecast.protocol.messages import PROTOCOL_VERSION

ANSWER_SECONDS = 10.0
BEAT_SECONDS = 5
"""The heartbeat that is asked for."""
CLOCK_SECONDS = 2.0
CERTIFICATE_DAYS = 21


class Patient:
    """A service under examination; checks leave here what later ones need."""

    def __init__(self, base: URL, http: aiohttp.ClientSession) -> None:
        self.base = base
        self.http = http
        self.channel = ""
        self.position = ""

    @asynccontextmanager
    async def get(self, path: str, **query: str) -> AsyncIterator[aiohttp.ClientResponse]:
        async with self.http.get(below(self.base, path), params=query) as response:
            yield response


async def reached(patient: Patient) -> str:
    try:
        async with patient.get("livez") as response:
            if response.status != 200 or (await response.text()).strip() != "ok":
                raise Trouble(
                    f"{patient.base} answers {response.status}, but not as Telecast does",
                    "Check the address, and what the proxy forwards to.",
                    fatal=True,
                )
    except LOST as fault:
        raise Trouble(
            f"nobody answers: {words(fault)}",
            "Check the address and the firewall, and that the service runs: telecast serve.",
            fatal=True,
        ) from None
    return "it answers"


async def encrypted(patient: Patient) -> str:
    if patient.base.scheme == "http":
        if is_loopback(str(patient.base)):
            return "plain HTTP on this machine only"
        raise Trouble(
            "keys travel in the clear", "Use https: --tls-cert, or a proxy that ends TLS."
        )
    async with patient.get("livez") as response:
        connection = response.connection
        transport = None if connection is None else connection.transport
        found = None if transport is None else transport.get_extra_info("peercert")
        await response.read()
    if not found:
        return "the certificate is accepted"
    ends = datetime.strptime(found["notAfter"], "%b %d %H:%M:%S %Y %Z").replace(tzinfo=UTC)
    days = (ends - datetime.now(UTC)).days
    if days < CERTIFICATE_DAYS:
        raise Trouble(f"the certificate ends in {days} days", "Renew it.")
    return f"the certificate is accepted and ends in {days} days"


async def ready(patient: Patient) -> str:
    async with patient.get("readyz", verbose="") as response:
        lines = (await response.text()).splitlines()
    if response.status == 200:
        return "it is ready"
    why = "; ".join(line.removeprefix("[-] ") for line in lines if line.startswith("[-]"))
    raise Trouble(f"it is not ready: {plain(why)}", "See operating.md, Health.")


async def allowed(patient: Patient) -> str:
    async with patient.get("api/v1/channels") as response:
        body = await _body(response)
    if response.status in (401, 403, 429):
        error = body.get("error", {})
        raise Trouble(
            f"{error.get('code')}: {plain(str(error.get('message')))}",
            str(error.get("advice")),
            fatal=True,
        )
    if not body.get("data"):
        raise Trouble(
            "the key reads no channel", "Make one: telecast keys new NAME --scope read.", fatal=True
        )
    patient.channel = str(body["data"][0]["name"])
    return f"the key reads {len(body['data'])} channels"


async def clock(patient: Patient) -> str:
    began = time.time()
    async with patient.get("livez") as response:
        theirs = parsedate_to_datetime(response.headers["Date"]).timestamp()
    apart = theirs - (began + time.time()) / 2
    if abs(apart) > CLOCK_SECONDS + 1:  # the header has whole seconds
        raise Trouble(
            f"the clocks are {abs(apart):.0f} s apart",
            "Run a time service on both machines: ages and delays are wrong until then.",
        )
    return "the clocks agree"


async def websocket(patient: Patient) -> str:
    query = {"channels": patient.channel, "heartbeat": str(BEAT_SECONDS)}
    try:
        async with patient.http.ws_connect(
            below(patient.base, "ws/telemetry"), params=query
        ) as socket:
            async with asyncio.timeout(ANSWER_SECONDS):
                await _judge(patient, lambda: _next_of(socket))
            began = time.monotonic()
            async with asyncio.timeout(BEAT_SECONDS * 2):
                while (await _next_of(socket))["type"] != "heartbeat":
                    pass
            waited = time.monotonic() - began
    except aiohttp.WSServerHandshakeError as fault:
        raise Trouble(
            f"the upgrade is answered {fault.status}",
            "Let the proxy forward `Upgrade` and `Connection`, with HTTP/1.1 (the guide, Behind a "
            "proxy). Until then use SSE.",
        ) from None
    except TimeoutError:
        raise Trouble(
            "it opens, but messages or heartbeats do not come",
            "Something in between holds messages back, or cuts quiet connections.",
        ) from None
    resumed = await _resume(patient, "ws")
    return f"opens, {resumed}, and beats (after {waited:.1f} s)"


async def events(patient: Patient) -> str:
    query = {"channels": patient.channel, "heartbeat": str(BEAT_SECONDS)}
    try:
        async with patient.get("sse/telemetry", **query) as response:
            if response.headers.get("Content-Encoding"):
                raise Trouble(
                    "something in between compresses the stream",
                    "Exclude text/event-stream from compression in the proxy.",
                )
            async with asyncio.timeout(ANSWER_SECONDS):
                await _judge(patient, lambda: _next_block(response))
    except TimeoutError:
        raise Trouble(
            "it opens, but no message comes",
            "A proxy buffers the stream. nginx: `proxy_buffering off;` (see the guide, Behind a "
            "proxy).",
        ) from None
    resumed = await _resume(patient, "sse")
    return f"opens without buffering, and {resumed}"


async def _judge(patient: Patient, following: Callable[[], Awaitable[dict[str, Any]]]) -> None:
    """Read up to `live`, and keep its position."""
    while True:
        message = await following()
        if message["type"] == "welcome" and message["protocol"] != PROTOCOL_VERSION:
            raise Trouble(
                f"it speaks protocol {message['protocol']}, this command {PROTOCOL_VERSION}",
                "Update the older of the two.",
            )
        if message["type"] == "live":
            patient.position = str(message["position"])
            return


async def _resume(patient: Patient, transport: str) -> str:
    """Come back with the position. What was seen, for the report."""
    query = {"channels": patient.channel, "since": patient.position}
    seen: dict[str, Any] = {"type": ""}
    async with asyncio.timeout(ANSWER_SECONDS):
        if transport == "sse":
            async with patient.get("sse/telemetry", **query) as response:
                while seen["type"] not in ("resume", "snapshot"):
                    seen = await _next_block(response)
        else:
            address = below(patient.base, "ws/telemetry")
            async with patient.http.ws_connect(address, params=query) as socket:
                while seen["type"] not in ("resume", "snapshot"):
                    seen = await _next_of(socket)
    if seen["type"] == "resume":
        return "resumes"
    if seen["reason"] == "RIGHTS_CHANGED":  # nothing was committed since: no position is newer
        return "resumes with a snapshot (the key's rights are newer than the last event)"
    raise Trouble(
        f"a resume is answered with a snapshot ({plain(str(seen['reason']))})",
        "Do requests go to different services, or does the journal forget at once?",
    )


async def _next_of(socket: aiohttp.ClientWebSocketResponse) -> dict[str, Any]:
    message = await socket.receive()
    if message.type is not aiohttp.WSMsgType.TEXT:
        raise Trouble(f"the WebSocket ends with {socket.close_code}", "See its code in the guide.")
    found: dict[str, Any] = orjson.loads(message.data)
    return found


async def _next_block(response: aiohttp.ClientResponse) -> dict[str, Any]:
    async for line in response.content:
        if line.startswith(b"data:"):
            found: dict[str, Any] = orjson.loads(line[5:])
            return found
    raise Trouble("the stream ends", "Something in between cuts it: look at its time limits.")


async def _body(response: aiohttp.ClientResponse) -> dict[str, Any]:
    try:
        found: dict[str, Any] = orjson.loads(await response.read())
    except orjson.JSONDecodeError:
        raise Trouble(
            f"the answer ({response.status}) is not Telecast's",
            "Check what the proxy forwards to.",
            fatal=True,
        ) from None
    return found


CHECKS = (
    ("address", reached),
    ("TLS", encrypted),
    ("readiness", ready),
    ("key", allowed),
    ("clock", clock),
    ("WebSocket", websocket),
    ("SSE", events),
)


async def examined(url: str, key: str | None) -> bool:
    """Print each check as it is done; whether all went well."""
    headers = {"User-Agent": f"telecast-doctor/{__version__}"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    well = True
    timeout = aiohttp.ClientTimeout(total=60, sock_connect=ANSWER_SECONDS)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as http:
        patient = Patient(URL(url), http)
        for name, check in CHECKS:
            try:
                show(f"[ok] {name}: {await check(patient)}")
            except Trouble as trouble:
                well = False
                show(f"[--] {name}: {trouble.what}\n     {trouble.fix}")
                if trouble.fatal:
                    break
            except LOST as fault:
                well = False
                show(f"[--] {name}: the connection is lost: {plain(words(fault))}")
    return well


async def examined_log(
    address: LogAddress, access: Access, monitors: Sequence[str], copy: Path
) -> bool:
    """The same of a log that several nodes share."""
    with nats_installed():
        from telecast.cli.admin.doctor_log import CHECKS as LOG_CHECKS
        from telecast.cli.admin.doctor_log import opened
    well = True
    try:
        async with opened(address, access, monitors, copy) as patient:
            show(f"[ok] log: {address} answers")
            for name, check in LOG_CHECKS:
                try:
                    show(f"[ok] {name}: {await check(patient)}")
                except (Trouble, TelecastError) as found:
                    well = False
                    show(_trouble(name, found))
    except Trouble as trouble:
        show(_trouble("log", trouble))
        return False
    return well


def _trouble(name: str, found: Trouble | TelecastError) -> str:
    if isinstance(found, TelecastError):
        return f"[--] {name}: {plain(found.message)}"
    return f"[--] {name}: {found.what}\n     {found.fix}"


@click.command(name="doctor")
@click.argument(
    "url", type=Address(), default=lambda: from_environment("TELECAST_URL") or DEFAULT_URL
)
@key_option
@click.option(
    "--journal",
    metavar="nats://HOST:4222/NAME",
    help="Look at the log that nodes share too: replicas, syncing, clock, checkpoints, the copy on "
    "this machine.",
)
@click.option(
    "--nats-monitor",
    "monitors",
    multiple=True,
    metavar="URL",
    help="Where a NATS server is monitored.  [default: port 8222 of each of the journal's servers]",
)
@settings_options(only=("journal_copy", *ACCESS))
@click.pass_context
def command(
    ctx: click.Context,
    /,
    url: str,
    key: str | None,
    journal: str | None,
    monitors: tuple[str, ...],
    **flags: Any,
) -> None:
    """Try the service at URL as a client would, and name what is in the way, with the fix.

    It looks at address, TLS, readiness, key, clock, and at both transports: opening, buffering by
    a proxy, heartbeats, resuming. It publishes nothing. Exit code 1 if anything is wrong.
    """
    log = None if journal is None else parse_address(journal)
    well = run(examined(url, key))
    if log is not None:
        copy = load_one("journal_copy", flags)
        well = run(examined_log(log, access_from(flags), monitors, copy)) and well
    ctx.exit(Exit.OK if well else Exit.ERROR)
