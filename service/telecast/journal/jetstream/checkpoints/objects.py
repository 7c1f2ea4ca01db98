"""The shelf as a NATS object store (architecture decision record 20 of nats.io).

So `nats object ls` and `nats object get` show and take what is in it. nats-py's own object store
was weighed: it gathers what it reads in quadratic time or waits for ever where a piece is missing,
and does not say how far the pieces of an upload that was cut off may be removed.

A file is kept in pieces under a name that is used once, then described by one message. What is
described and whole was put whole; pieces that nothing describes are what an upload left.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import hashlib
import logging
import secrets
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, BinaryIO

import orjson

from telecast.errors import JournalCorrupt, JournalFull, JournalUnavailable
from telecast.journal.jetstream.checkpoints.file import as_metadata, from_metadata
from telecast.journal.jetstream.checkpoints.shelf import Checkpoint, Shelf
from telecast.journal.jetstream.consumer import Consumer
from telecast.journal.jetstream.servers import FULL, NOT_FOUND, TROUBLE, Refused, Servers

log = logging.getLogger(__name__)

PIECE = 128 * 1024
"""What every server takes as one message."""
STALL_SECONDS = 10.0
"""Without another piece for so long, reading one is given up."""
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LEFT_SECONDS = 600.0
"""Pieces that nothing describes are removed once the last is older: nobody is at it any more."""


class ObjectShelf(Shelf):
    """The bucket `telecast-NAME`, made when the first checkpoint is put."""

    def __init__(self, servers: Servers, name: str, replicas: Callable[[], int]) -> None:
        self._servers = servers
        self._bucket = f"telecast-{name}"
        self._stream = f"OBJ_telecast-{name}"
        self._replicas = replicas

    async def found(self) -> list[Checkpoint]:
        with self._explained():
            described = await self._described()
        found = []
        for each in described.values():
            try:
                found.append(from_metadata(each["name"], each["metadata"]))
            except (KeyError, TypeError, ValueError) as error:
                log.debug("an object that is no checkpoint", extra={"reason": repr(error)})
        return sorted(found, key=lambda each: each.sequence, reverse=True)

    async def put(self, checkpoint: Checkpoint, path: str) -> None:
        with self._explained():
            await self._make_bucket()
            pieces = f"$O.{self._bucket}.C.{(nuid := secrets.token_hex(11))}"
            with await asyncio.to_thread(open, path, "rb") as file:
                count, digest = await self._put_pieces(file, pieces)
            if (await self._subjects(pieces)).get(pieces) != count:
                raise JournalUnavailable("the object store did not keep all of it")
            about = {
                "name": checkpoint.name,
                "bucket": self._bucket,
                "nuid": nuid,
                "size": checkpoint.size,
                "mtime": datetime.now(UTC).isoformat(),
                "chunks": count,
                "digest": digest,
                "options": {"max_chunk_size": PIECE},
                "metadata": as_metadata(checkpoint),
            }
            await self._servers.ask(
                self._about(checkpoint.name), orjson.dumps(about), {"Nats-Rollup": "sub"}
            )

    async def _put_pieces(self, file: BinaryIO, subject: str) -> tuple[int, str]:
        """How many pieces the file makes, and the digest of all of it. One waits for the other:
        what is published meanwhile is not to wait for long."""
        whole, count = hashlib.sha256(), 0
        while piece := await asyncio.to_thread(file.read, PIECE):
            whole.update(piece)
            await self._servers.ask(subject, piece)
            count += 1
        return count, f"SHA-256={base64.urlsafe_b64encode(whole.digest()).decode()}"

    async def get(self, checkpoint: Checkpoint, path: str) -> None:
        with self._explained():
            about = (await self._described())[self._about(checkpoint.name)]
            pieces = f"$O.{self._bucket}.C.{about['nuid']}"
            if (await self._subjects(pieces)).get(pieces, 0) != about["chunks"]:
                raise JournalCorrupt("some of it is missing")
            with await asyncio.to_thread(open, path, "wb") as file:
                await self._get_pieces(pieces, about["chunks"], file)

    async def _get_pieces(self, subject: str, count: int, file: BinaryIO) -> None:
        """Whatever makes a consumer doubt, its successor goes on behind the last piece."""
        after = written = 0
        while written < count:
            consumer = Consumer(self._servers, self._stream)
            await consumer.begin(after + 1, subject)
            deliveries = consumer.deliveries()
            try:
                while written < count:
                    async with asyncio.timeout(STALL_SECONDS):
                        logged = await anext(deliveries, ())
                    if not logged:
                        break
                    after, written = logged[-1].sequence, written + len(logged)
                    await asyncio.to_thread(file.writelines, [each.data for each in logged])
            finally:
                await deliveries.aclose()
                await consumer.end()

    async def tidy(self, keep: Collection[str]) -> None:
        with self._explained():
            described = await self._described()
            kept = {self._about(name) for name in keep}
            for subject in described.keys() - kept:
                await self._purge(subject)
            whole = {f"$O.{self._bucket}.C.{each['nuid']}" for each in described.values()}
            gone = {
                f"$O.{self._bucket}.C.{each['nuid']}"
                for subject, each in described.items()
                if subject not in kept
            }
            for subject in await self._subjects(f"$O.{self._bucket}.C.>"):
                if subject in gone or (subject not in whole and await self._is_left(subject)):
                    await self._purge(subject)

    async def _is_left(self, subject: str) -> bool:
        """Whether nobody puts pieces there any more. By the servers' clock alone."""
        last = await self._last(subject)
        now = await self._servers.call(f"STREAM.INFO.{self._stream}")
        return last is not None and _age(last["time"], now["ts"]) > LEFT_SECONDS

    async def _make_bucket(self) -> None:
        wanted = {
            "name": self._stream,
            "subjects": [f"$O.{self._bucket}.C.>", f"$O.{self._bucket}.M.>"],
            "retention": "limits",
            "storage": "file",
            "discard": "new",
            "num_replicas": self._replicas(),
            "max_age": 0,
            "allow_rollup_hdrs": True,
            "allow_direct": True,
            "compression": "none",
        }
        try:
            await self._servers.call(f"STREAM.INFO.{self._stream}")
        except Refused as refused:
            if refused.code != NOT_FOUND:
                raise
            await self._servers.call(f"STREAM.CREATE.{self._stream}", wanted)

    async def _described(self) -> dict[str, dict[str, Any]]:
        """What is said about each object, by the subject that says it."""
        found = {}
        for subject in await self._subjects(f"$O.{self._bucket}.M.>"):
            message = await self._last(subject)
            about = orjson.loads(base64.b64decode(message["data"])) if message else {}
            if about and not about.get("deleted"):
                found[subject] = about
        return found

    async def _subjects(self, wanted: str) -> dict[str, int]:
        """How many messages each of the subjects has."""
        try:
            answer = await self._servers.call(
                f"STREAM.INFO.{self._stream}", {"subjects_filter": wanted}
            )
        except Refused as refused:
            if refused.code == NOT_FOUND:
                return {}
            raise
        found: dict[str, int] = answer["state"].get("subjects") or {}
        return found

    async def _last(self, subject: str) -> dict[str, Any] | None:
        try:
            answer = await self._servers.call(
                f"STREAM.MSG.GET.{self._stream}", {"last_by_subj": subject}
            )
        except Refused:
            return None
        found: dict[str, Any] = answer["message"]
        return found

    async def _purge(self, subject: str) -> None:
        await self._servers.call(f"STREAM.PURGE.{self._stream}", {"filter": subject})

    def _about(self, name: str) -> str:
        return f"$O.{self._bucket}.M.{base64.urlsafe_b64encode(name.encode()).decode()}"

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except KeyError as error:
            raise JournalCorrupt(f"it is not there any more, or not described ({error})") from error
        except Refused as refused:
            if refused.code in FULL:
                raise JournalFull(f"there is no space for it ({refused})") from refused
            raise JournalUnavailable(f"the object store refused it: {refused}") from refused
        except TROUBLE as error:
            if isinstance(error, OSError) and error.errno in NO_SPACE:
                raise JournalFull("there is no space here to write it to") from error
            raise JournalUnavailable(f"the object store did not answer ({error!r})") from error


def _age(earlier: str, later: str) -> float:
    """Seconds between two instants of a server."""
    return (_instant(later) - _instant(earlier)).total_seconds()


def _instant(text: str) -> datetime:
    """RFC 3339 with up to nine decimals, in UTC."""
    return datetime.fromisoformat(text.rstrip("Z")[:26]).replace(tzinfo=UTC)
