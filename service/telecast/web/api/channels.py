"""What can be read without a stream: the catalogue, snapshots, history."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import orjson
from aiohttp import web

from telecast.channels.catalogue import Channel
from telecast.errors import Code, PeerFault
from telecast.journal.lookup import seq_before
from telecast.model import Position, Principal
from telecast.protocol.instants import parse_instant
from telecast.protocol.messages import PROTOCOL_VERSION
from telecast.protocol.query import no_such_parameter, parse_query
from telecast.protocol.subscription import grant, narrowed
from telecast.tape.selection import Selection, filter_of
from telecast.tape.tape import Tape
from telecast.turns import AnyTurn
from telecast.web.api.rows import readable, row_bytes, rows_tag, unless_known, validators
from telecast.web.auth.credentials import require
from telecast.web.front.answers import ok, ok_bytes
from telecast.web.front.body import holding
from telecast.web.parts import Parts, parts_from

PAGE = (1, 5_000, 1_000)
"""Least, most and default rows or events in one answer."""
AHEAD_SECONDS = 2.0
"""How long a position of another node is waited for."""
SCANNED = 20_000
"""Events looked at for one page of history: a rare filter gets short pages, not slow ones."""
PAGE_BYTES = 2 * 2**20
"""After so much, about, a page ends: it is joined and written in one step."""
READ = 500
ROW_BYTES = 1_024
"""What a row is taken to be before it is read; a page that is larger counts as it is."""
ROWS_BYTES = 256 * 1024
"""Rows listed in one step, in bytes of their JSON."""
_WHOLE = re.compile(r"[0-9]{1,5}", re.ASCII)
_CURSOR = re.compile(r"([0-9a-z]{4,16}:[0-9]{1,16})\.([0-9]{1,16})", re.ASCII)


def describe(channel: Channel) -> dict[str, Any]:
    """A channel as a client may rely on it."""
    return {
        "name": channel.name,
        "title": channel.title,
        "description": channel.description,
        "protocol": PROTOCOL_VERSION,
        "mode": channel.mode,
        "key": list(channel.key_fields),
        "filters": sorted(channel.filters),
        "retention": {
            "events": channel.retention.events,
            "seconds": int(channel.retention.seconds),
        },
        "conflated": channel.conflated,
        "staleAfterSeconds": channel.stale_after,
        "publishScope": channel.publish_scope,
        "example": channel.example,
        "schema": channel.json_schema,
    }


async def catalogue(request: web.Request) -> web.Response:
    principal = require(request, "read")
    catalogue = parts_from(request).catalogue
    return ok([describe(channel) for channel in catalogue.open_to(principal)])


async def channel(request: web.Request) -> web.Response:
    entry, _ = readable(request)
    return ok(describe(entry))


async def snapshot(request: web.Request) -> web.Response:
    """Live rows in seq order. All pages carry the first one's position: resume from there.

    The `ETag` names the rows as they were before any was read: what changes meanwhile makes the
    next question a new one.
    """
    entry, principal = readable(request)
    parts = parts_from(request)
    limit, cursor = _limit(request), request.query.get("cursor")
    selection = _selection(request, entry, principal, ("limit", "cursor"))
    position, after = parts.broadcaster.head, 0
    if cursor is not None:
        match = _CURSOR.fullmatch(cursor)
        if match is None:
            raise PeerFault(Code.BAD_REQUEST, "This is no `cursor` of ours.")
        position, after = Position.parse(match[1]), int(match[2])
        if position.epoch != parts.journal.epoch:
            raise _other_epoch()
    tag = rows_tag(parts.tape, parts.journal.epoch, entry.name, selection)
    known = unless_known(request, tag)
    if known is not None:
        return known
    async with holding(request, _held(limit)):
        rows, upto, more = await _rows(
            parts.tape, selection, after, limit, parts.turns.of(principal.key_id)
        )
    answer = {"position": str(position), "more": more}
    if more:
        answer["cursor"] = f"{position}.{upto}"
    return ok_bytes(_with_list(answer, "rows", rows), headers=validators(tag))


async def _rows(
    tape: Tape, selection: Selection, after: int, limit: int, turn: AnyTurn
) -> tuple[list[bytes], int, bool]:
    """The first rows after a seq, the seq up to which these are all, whether there are more.

    A row that is changed meanwhile moves to its new place.
    """
    found: dict[str, bytes] = {}
    size = 0
    while True:
        if turn.over():
            await turn.next()
        chunk = tape.rows(selection, after, upto=tape.head, most_bytes=ROWS_BYTES)
        for event in chunk.events:
            if len(found) >= limit or size >= PAGE_BYTES:
                return [*found.values()], after, True
            size -= len(found.pop(event.key, b""))
            found[event.key] = row = row_bytes(event)
            size += len(row)
            after = event.seq
            if turn.over():
                await turn.next()
        after = chunk.upto
        if after >= tape.head:
            return [*found.values()], after, False


async def history(request: web.Request) -> web.Response:
    """Events after a position or a time, up to another, in seq order, as the journal has them."""
    entry, principal = readable(request)
    parts = parts_from(request)
    limit, asked = _limit(request), request.query.get("after", request.query.get("from"))
    selection = _selection(request, entry, principal, ("limit", "after", "from", "to"))
    if "after" in request.query and "from" in request.query:
        raise PeerFault(Code.BAD_REQUEST, "`after` and `from` mean the same: send one.")
    epoch = parts.journal.epoch
    after = 0 if asked is None else await _place(parts, entry.name, "from", asked)
    until = request.query.get("to")
    head = parts.tape.head
    if until is not None:
        head = min(head, await _place(parts, entry.name, "to", until))
        if head < after:
            raise PeerFault(Code.BAD_REQUEST, "`to` is before `from`.")
    async with holding(request, _held(limit)):
        events, upto, more, whole_from = await _read(
            parts, entry.name, selection, after, head, limit, parts.turns.of(principal.key_id)
        )
    answer: dict[str, Any] = {"position": str(Position(epoch, upto)), "more": more}
    # Asking for a past that was trimmed is no error; an answer that looks whole would be.
    gone = asked is not None and after < whole_from
    answer["gap"] = {"fromSeq": after + 1, "toSeq": whole_from} if gone else None
    return ok_bytes(_with_list(answer, "events", events))


async def _read(
    parts: Parts,
    name: str,
    selection: Selection,
    after: int,
    head: int,
    limit: int,
    turn: AnyTurn,
) -> tuple[list[bytes], int, bool, int]:
    """Events after a seq up to another, the seq up to which these are all, whether there are
    more, and from where on nothing was missing.

    Trimming goes on between two reads of the journal. So each is judged by the floors that were
    true when it was made, and an answer ends before a hole: the next one begins with the gap.
    """
    tape = parts.tape
    found: list[bytes] = []
    scanned = size = 0
    whole_from: int | None = None
    while True:
        if turn.over():
            await turn.next()
        page = await parts.journal.read((name,), after, READ)
        floor = page.floors[name].whole_from
        if whole_from is None:
            whole_from = floor
        elif floor > after:
            return found, after, True, whole_from
        for entry in page.entries:
            if turn.over():
                await turn.next()
            if entry.seq > head:
                return found, max(after, head), False, whole_from
            after = entry.seq
            scanned += 1
            event = tape.event(entry)
            if selection.wants(event):
                found.append(event.json)
                size += len(event.json)
                if len(found) >= limit or size >= PAGE_BYTES:
                    return found, after, True, whole_from
        if not page.more:
            return found, max(after, min(page.upto, head)), False, whole_from
        after = min(page.upto, head)
        if scanned >= SCANNED:
            return found, after, True, whole_from
        await asyncio.sleep(0)


async def _place(parts: Parts, channel: str, name: str, text: str) -> int:
    """The seq of a position, or the last one before a time. Raises PeerFault."""
    instant = parse_instant(text, name)
    if instant is not None:
        return await seq_before(parts.journal, (channel,), instant.at(int(parts.now() * 1000)))
    position = Position.parse(text)
    if position.epoch != parts.journal.epoch:
        raise _other_epoch()
    if position.seq > parts.tape.head and parts.journal.shared:
        # Another node has answered with it: this one has it in a moment, if it is one of ours.
        with suppress(TimeoutError):
            async with asyncio.timeout(AHEAD_SECONDS):
                await parts.relay.reached(position.seq)
    if position.seq > parts.tape.head:
        raise PeerFault(Code.POSITION_UNKNOWN, "This position has not been committed here.")
    return position.seq


def _selection(
    request: web.Request, entry: Channel, principal: Principal, parts: tuple[str, ...]
) -> Selection:
    """The filters of the query, checked as a stream's are, with the key's own."""
    catalogue = parts_from(request).catalogue
    filters = catalogue.filters
    for name in request.query:
        if name not in filters and name not in parts:
            raise no_such_parameter(name, parts, entry.filters)
    asked = [pair for pair in request.query.items() if pair[0] in filters]
    query = parse_query(asked, None, filters)
    granted = grant(catalogue, (entry.name,), query.fields, principal)
    fields: Mapping[str, frozenset[str]] = narrowed(entry, granted.asked[entry.name], principal)
    return Selection({entry.name: filter_of(fields)})


def _held(limit: int) -> int:
    """Bytes that a page takes, twice: gathered, and joined to the answer."""
    return 2 * min(PAGE_BYTES, limit * ROW_BYTES)


def _limit(request: web.Request) -> int:
    least, most, usual = PAGE
    text = request.query.get("limit")
    if text is None:
        return usual
    if not _WHOLE.fullmatch(text) or not least <= int(text) <= most:
        raise PeerFault(Code.BAD_REQUEST, f"`limit` must be a whole number, {least} to {most}.")
    return int(text)


def _other_epoch() -> PeerFault:
    return PeerFault(Code.POSITION_UNKNOWN, "This position is of another journal.")


def _with_list(answer: Mapping[str, Any], name: str, items: list[bytes]) -> bytes:
    """A JSON object with one more member: a list whose items are JSON already."""
    return b'{"%b":[%b],%b' % (name.encode(), b",".join(items), orjson.dumps(answer)[1:])
