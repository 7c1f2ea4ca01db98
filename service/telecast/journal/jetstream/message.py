"""What one message of the log holds: a group of one node's batches, or a mark to trim at. Pure.

A line of JSON that describes, then the records' payloads as they are, one behind the other. All
that a node judges by stands in it, so that every node judges alike; nothing of the node itself
gets into an event.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import orjson

from telecast.errors import JournalCorrupt
from telecast.journal.base import Batch, Idempotency, KeyLimits, Note
from telecast.journal.jetstream.checkpoints.marks import Mark, described, read
from telecast.model import Record, Retention

VERSION = 1
"""Of this form, and of the rules by which a message is judged: all nodes must know it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """`number` counts the messages of `node` from 1. `fences` are nodes whose messages count no
    more. `at` and `chain`: the sender had applied the log up to there, with that result."""

    node: str
    number: int
    fences: tuple[str, ...] = ()
    at: int = 0
    chain: int = 0
    batches: tuple[Batch, ...] = ()
    trim: Mapping[str, Retention] | None = None
    mark: Mark | None = None
    limits: KeyLimits | None = None
    """Of idempotency keys, as the sender has them set: its batches are judged by them."""


class NewerVersion(Exception):
    """The message is of a version that this node does not know."""

    def __init__(self, version: object) -> None:
        super().__init__(version)
        self.version = version


def encode(message: Message) -> bytes:
    payload = b"".join(_payload(message))
    head: dict[str, Any] = {
        "v": VERSION,
        "node": message.node,
        "n": message.number,
        "fences": message.fences,
        "at": message.at,
        "chain": message.chain,
        "crc": crc32(payload),
        "batches": [_described(batch) for batch in message.batches],
    }
    if message.trim is not None:
        head["trim"] = {
            name: [kept.events, kept.seconds, kept.bytes] for name, kept in message.trim.items()
        }
    if message.mark is not None:
        head["mark"] = described(message.mark)
    if message.limits is not None:
        head["limits"] = [message.limits.per_owner, message.limits.total]
    return orjson.dumps(head) + b"\n" + payload


def _payload(message: Message) -> Iterator[bytes]:
    for batch in message.batches:
        yield from (record.data for record in batch.records)
        yield from (note.value for note in batch.notes if note.value is not None)


def _described(batch: Batch) -> list[Any]:
    asked = batch.idempotency
    return [
        [(r.channel, r.key, r.op, r.pinned, len(r.data)) for r in batch.records],
        [(channel, key, seq) for (channel, key), seq in batch.expect.items()],
        None if asked is None else [asked.key, asked.digest.hex()],
        [(n.book, n.key, None if n.value is None else len(n.value)) for n in batch.notes],
    ]


def decode(data: bytes) -> Message:
    """Raises NewerVersion, and JournalCorrupt for what no node of ours has sent."""
    line, _, payload = data.partition(b"\n")
    try:
        head = orjson.loads(line)
        if head["v"] != VERSION:
            raise NewerVersion(head["v"])
        if crc32(payload) != head["crc"]:
            raise JournalCorrupt("a message of the log is not what was sent")
        parts = _Parts(payload)
        trim, mark, limits = head.get("trim"), head.get("mark"), head.get("limits")
        return Message(
            node=head["node"],
            number=head["n"],
            fences=tuple(head["fences"]),
            at=head["at"],
            chain=head["chain"],
            batches=tuple([_batch(described, parts) for described in head["batches"]]),
            trim=trim and {name: Retention(*kept) for name, kept in trim.items()},
            mark=mark and read(mark),
            limits=limits and KeyLimits(*limits),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise JournalCorrupt(f"a message of the log is none of ours ({error!r})") from error


class _Parts:
    """A payload, cut from its beginning."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._start = 0

    def cut(self, size: int) -> bytes:
        start, self._start = self._start, self._start + size
        return self._payload[start : self._start]


def _batch(described: list[Any], parts: _Parts) -> Batch:
    records, expect, asked, notes = described
    return Batch(
        records=tuple(
            [
                Record(channel, key, op, pinned, parts.cut(size))
                for channel, key, op, pinned, size in records
            ]
        ),
        expect={(channel, key): seq for channel, key, seq in expect},
        idempotency=None if asked is None else Idempotency(asked[0], bytes.fromhex(asked[1])),
        notes=tuple(
            [
                Note(book, key, None if size is None else parts.cut(size))
                for book, key, size in notes
            ]
        ),
    )
