"""A SQLite journal is moved into a stream, and a copy is fetched from one. For commands.

A journal that was moved keeps its epoch, so positions that clients hold stay good: the stream
begins with a checkpoint that has all that the journal had. Its numbers go on from there. The first
message of such a stream is removed again: so a node that does not find the checkpoint sees that the
log begins later than its copy, and does not start with nothing.

Order: the checkpoint is kept; then the journal is marked as moved, so that no service starts on it
any more; then the stream is opened to nodes. A crash before the mark leaves the journal as it was,
one after it neither to be used: in both cases the same command once more does the rest.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from typing import Any

import nats.errors

from telecast.errors import JournalCorrupt, JournalUnavailable, SettingsError
from telecast.journal.jetstream.address import Access, Address
from telecast.journal.jetstream.checkpoints.file import adopt, new_file, remove
from telecast.journal.jetstream.checkpoints.newest import Fetching
from telecast.journal.jetstream.checkpoints.objects import ObjectShelf
from telecast.journal.jetstream.checkpoints.shelf import Checkpoint
from telecast.journal.jetstream.description import life_of, new_stream, unusable
from telecast.journal.jetstream.servers import NOT_FOUND, TROUBLE, Refused, Servers
from telecast.journal.jetstream.stream import JetStreamLog
from telecast.journal.sqlite.faults import explained
from telecast.journal.sqlite.lock import FileLock
from telecast.journal.sqlite.schema import (
    CopyOf,
    connect,
    copy_of,
    inspect,
    mark_moved,
    moved_to,
)
from telecast.journal.sqlite.upkeep import check


@dataclass(frozen=True, slots=True)
class Moved:
    """`again`: it had been moved before, and nothing was done."""

    epoch: str
    head: int
    again: bool = False


async def move(path: str, address: Address, access: Access, *, replicas: int) -> Moved:
    """Move the journal at `path` into a stream that is not there yet.

    Raises JournalLocked while a service has it open, JournalCorrupt, JournalUnavailable,
    SettingsError where the stream is there; then the journal is as it was.
    """
    source = await asyncio.to_thread(_take, path)
    try:
        if source.moved not in (None, str(address)):
            raise SettingsError([f"{path} was moved to {source.moved} already."])
        async with _connected(address, access, replicas) as servers:
            target = _Target(servers, address, replicas)
            info = await target.made(source.epoch, marked=source.moved is not None)
            if "telecast.moving" not in info["config"]["metadata"]:
                return Moved(source.epoch, source.head, again=True)
            await target.filled(source.path, CopyOf(life_of(info), source.epoch))
            await asyncio.to_thread(_mark, source.path, str(address))
            await target.finished(info, source.epoch)
    finally:
        source.lock.release()
    return Moved(source.epoch, source.head)


async def fetch_copy(address: Address, access: Access, to: str) -> Checkpoint:
    """Write the newest good checkpoint of a stream to a new file, as a node's copy.

    Raises SettingsError where `to` is there, JournalUnavailable, JournalCorrupt."""
    if await asyncio.to_thread(os.path.lexists, to):
        raise SettingsError([f"{to} is there already, and is not overwritten: name a new file."])
    log = JetStreamLog(address, access, make=False)
    try:
        await log.open()
        fetching = Fetching(log, to)
        try:
            fetched = await fetching.fetch(await log.extent(), 0)
            if fetched is None or fetching.used is None:
                raise JournalUnavailable(
                    f"{address} has no good checkpoint "
                    f"({'; '.join(fetching.reasons) or 'none was made yet'}). Copy a node's copy "
                    "in place of it: `telecast journal backup` beside the node."
                )
            await asyncio.to_thread(os.replace, fetched, to)
            return fetching.used
        finally:
            await asyncio.to_thread(fetching.clear)
    finally:
        await log.close()


async def restored(address: Address, access: Access) -> Checkpoint | None:
    """Let nodes go on from a stream that was put back from a backup, together with its object
    store: the newest checkpoint becomes one of the stream's new life. Clients start over.

    None where the stream begins with its first message, so that copies are made from it alone.
    Raises JournalUnavailable, JournalCorrupt."""
    log = JetStreamLog(address, access, make=False)
    try:
        await log.open()
        extent = await log.extent()
        # A folder for this user alone: in the common one a file of this name may be another's.
        folder = await asyncio.to_thread(tempfile.mkdtemp, prefix="telecast-restored-")
        fetching = Fetching(log, os.path.join(folder, "copy"))
        try:
            fetched = await fetching.fetch(extent, 0, earlier_life=True)
            if fetched is not None:
                made = await asyncio.to_thread(adopt, fetched, CopyOf(log.life, log.epoch))
                await log.shelf.put(made, fetched)
                await log.shelf.tidy([made.name])
                return made
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        if extent.first > 1:
            raise JournalUnavailable(
                f"{address} begins at message {extent.first}, and no checkpoint leads from there "
                f"({'; '.join(fetching.reasons) or 'there is none'}): put its object store "
                f"OBJ_telecast-{address.name} back too, or begin another stream with a backup "
                "(`telecast journal restored FILE`, then `telecast journal move`)."
            )
        return None
    finally:
        await log.close()


class _Target:
    """The stream, from the first step to the last."""

    def __init__(self, servers: Servers, address: Address, replicas: int) -> None:
        self._servers = servers
        self._address = address
        self._replicas = replicas
        self._shelf = ObjectShelf(servers, address.name, lambda: replicas)

    async def made(self, epoch: str, *, marked: bool) -> dict[str, Any]:
        """The description of a stream that is ours to fill, or was filled from this journal."""
        name = self._address.name
        try:
            info = await self._servers.call(f"STREAM.INFO.{name}")
        except Refused as refused:
            if refused.code != NOT_FOUND:
                raise
            wanted = new_stream(name, self._replicas, **{"telecast.moving": epoch})
            return await self._servers.call(f"STREAM.CREATE.{name}", wanted)
        metadata = info["config"].get("metadata") or {}
        begun = metadata.get("telecast.moving") == epoch
        done = marked and metadata.get("telecast.moved", "") == f"{life_of(info)} {epoch}"
        if not begun and not done:
            raise SettingsError(
                [f"There is a stream {name} at {self._address} already: name another."]
            )
        return info

    async def filled(self, path: str, log: CopyOf) -> None:
        """The stream begins behind its first message, and one checkpoint says with what."""
        name = self._address.name
        info = await self._servers.call(f"STREAM.INFO.{name}")
        sequence = info["state"]["last_seq"]
        if not sequence:
            subject = info["config"]["subjects"][0]
            sequence = (await self._servers.ask(subject, b"moved"))["seq"]
        await self._servers.call(f"STREAM.PURGE.{name}", {"seq": sequence + 1})
        draft = f"{path}.moving"
        try:
            made = await asyncio.to_thread(_checkpoint, path, draft, log, sequence)
            await self._shelf.put(made, draft)
        finally:
            await asyncio.to_thread(remove, draft)
        await self._shelf.tidy([made.name])

    async def finished(self, info: dict[str, Any], epoch: str) -> None:
        config = info["config"]
        metadata = {
            key: value for key, value in config["metadata"].items() if key != "telecast.moving"
        }
        metadata["telecast.moved"] = f"{life_of(info)} {epoch}"
        await self._servers.call(f"STREAM.UPDATE.{config['name']}", config | {"metadata": metadata})


def _checkpoint(path: str, draft: str, log: CopyOf, sequence: int) -> Checkpoint:
    new_file(draft)
    with explained(path), closing(connect(path, "ro")) as database:
        if copy_of(database) is not None:
            raise JournalCorrupt(
                f"{path} is a node's copy of a log. To begin another log with it: `telecast "
                f"journal restored {path}`, which gives it a new epoch, then move it."
            )
        database.execute("VACUUM INTO ?", (draft,))
    check(draft)  # nothing that is damaged is moved
    return adopt(draft, log, sequence)


@dataclass(frozen=True, slots=True)
class _Source:
    """A journal that is held. `moved`: where it was moved to, as far as it knows."""

    path: str
    lock: FileLock
    epoch: str
    head: int
    moved: str | None


def _take(path: str) -> _Source:
    if not os.path.isfile(path):
        raise JournalUnavailable(f"There is no journal {path}.")
    path = os.path.realpath(path)
    lock = FileLock(path)
    try:
        lock.hold()
        epoch, head = inspect(path)
        with explained(path), closing(connect(path, "ro")) as database:
            moved = moved_to(database)
    except BaseException:
        lock.release()
        raise
    return _Source(path, lock, epoch, head, moved)


def _mark(path: str, url: str) -> None:
    with explained(path), closing(connect(path, "rw")) as database:
        mark_moved(database, url)


@asynccontextmanager
async def _connected(address: Address, access: Access, replicas: int) -> AsyncIterator[Servers]:
    servers = Servers(address, access, lambda: None)
    try:
        await servers.connect()
        yield servers
    except nats.errors.NoRespondersError as error:
        raise JournalUnavailable(
            f"The servers of {address} have JetStream switched off."
        ) from error
    except Refused as refused:
        raise unusable(address, replicas, refused) from refused
    except TROUBLE as error:
        raise JournalUnavailable(f"{address} did not answer ({error!r}).") from error
    finally:
        with suppress(*TROUBLE):
            await servers.close()
