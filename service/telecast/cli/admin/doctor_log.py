"""What `telecast doctor --journal nats://...` looks at: the log, its servers, this node's copy."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from yarl import URL

from telecast.cli.output import plain
from telecast.cli.trouble import Trouble
from telecast.client.connection.http import LOST
from telecast.errors import TelecastError
from telecast.journal.jetstream.address import Access, Address
from telecast.journal.jetstream.copy import reached
from telecast.journal.jetstream.description import ms_of
from telecast.journal.jetstream.stream import JetStreamLog

MONITOR_PORT = 8222
MONITOR_SECONDS = 2.0
CLOCK_SECONDS = 1.0
BEHIND = 1000
"""Messages by which a copy may be behind: about a second of a busy log."""


@dataclass(frozen=True, slots=True)
class LogPatient:
    """A log under examination. `monitors` are the servers' monitoring addresses."""

    address: Address
    log: JetStreamLog
    monitors: Sequence[str]
    copy: Path


async def kept(patient: LogPatient) -> str:
    info = await patient.log.info()
    replicas = info["config"]["num_replicas"]
    late = [
        each["name"]
        for each in (info.get("cluster") or {}).get("replicas") or ()
        if not each.get("current") or each.get("offline")
    ]
    if replicas == 1:
        raise Trouble(
            "it has one replica: whatever its server loses is lost",
            "Three servers, then: nats stream edit NAME --replicas 3.",
        )
    if late:
        raise Trouble(
            f"{', '.join(map(plain, late))} of its {replicas} replicas are not up to date",
            "Look after these servers: if another one fails, publishing stops.",
        )
    return f"{replicas} replicas, all up to date"


async def synced(patient: LogPatient) -> str:
    known, silent = [], []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=MONITOR_SECONDS)) as http:
        for monitor in patient.monitors:
            try:
                async with http.get(URL(monitor) / "jsz") as response:
                    config = (await response.json(content_type=None))["config"]
            except (*LOST, KeyError, TypeError, ValueError):
                silent.append(monitor)
                continue
            if not config.get("sync_always"):
                seconds = int(config.get("sync_interval", 0)) / 1e9
                raise Trouble(
                    f"{monitor} acknowledges before it syncs (every {seconds:g} s)",
                    "Set `sync_interval: always` in its jetstream block: else a loss of power of "
                    "a majority loses what was acknowledged since.",
                )
            known.append(monitor)
    if silent:
        return (
            f"not known of {', '.join(silent)}: no monitoring there (`http: {MONITOR_PORT}` in "
            "nats.conf, --nats-monitor URL)"
        )
    return f"{', '.join(known)} sync before they acknowledge"


async def clock(patient: LogPatient) -> str:
    began = time.time()
    info = await patient.log.info()
    apart = ms_of(info["ts"]) / 1000 - (began + time.time()) / 2
    if abs(apart) > CLOCK_SECONDS:
        raise Trouble(
            f"the log's clock and this machine's are {abs(apart):.1f} s apart",
            "Run a time service on all: events have the log's time, delays are shown by this one.",
        )
    return f"the log's clock and this machine's are {abs(apart) * 1000:.0f} ms apart"


async def copied(patient: LogPatient) -> str:
    extent = await patient.log.extent()
    if not patient.copy.exists():
        return f"no copy at {patient.copy} on this machine; the log is at {extent.last}"
    applied = reached(str(patient.copy), patient.log.life)
    if applied is None:
        raise Trouble(
            f"{patient.copy} is no copy of this log",
            "Check --journal and --journal-copy.",
        )
    behind = extent.last - applied
    if behind > BEHIND:
        raise Trouble(
            f"{patient.copy} is {behind:,} messages behind the log's {extent.last:,}",
            "A node that runs catches up: see its log. One that is stopped does at its start.",
        )
    return f"{patient.copy} is {max(0, behind)} messages behind the log's {extent.last:,}"


async def checkpointed(patient: LogPatient) -> str:
    extent = await patient.log.extent()
    found = await patient.log.shelf.found()
    good = [
        each
        for each in found
        if each.life == patient.log.life and extent.first - 1 <= each.sequence <= extent.last
    ]
    if not good and extent.first > 1:
        raise Trouble(
            f"the log begins at {extent.first:,}, and no checkpoint leads on from there",
            "Keep the copies of the nodes: a node without one can't start. "
            "A running node makes a checkpoint when one is due.",
        )
    if not good:
        return "none yet; the log is whole"
    return (
        f"{len(good)}, the newest {extent.last - good[0].sequence:,} messages ago "
        f"({good[0].size / 2**20:.1f} MiB)"
    )


CHECKS: tuple[tuple[str, Callable[[LogPatient], Awaitable[str]]], ...] = (
    ("replicas", kept),
    ("syncing", synced),
    ("clock of the log", clock),
    ("copy", copied),
    ("checkpoints", checkpointed),
)


def monitors_of(address: Address, given: Sequence[str]) -> list[str]:
    """The addresses that are given, or the usual one of each server."""
    if given:
        return list(given)
    hosts = [URL(server).host for server in address.servers]
    return [str(URL.build(scheme="http", host=host or "", port=MONITOR_PORT)) for host in hosts]


@asynccontextmanager
async def opened(
    address: Address, access: Access, monitors: Sequence[str], copy: Path
) -> AsyncIterator[LogPatient]:
    """Raises Trouble where the log can't be used at all."""
    log = JetStreamLog(address, access, make=False)
    try:
        await log.open()
    except TelecastError as fault:
        await log.close()
        raise Trouble(plain(fault.message), "See operating.md, Several nodes.") from fault
    try:
        yield LogPatient(address, log, monitors_of(address, monitors), copy)
    finally:
        await log.close()
