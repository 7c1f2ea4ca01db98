"""One row by its key, and answers that are sent only where something has changed (RFC 9110 §13)."""

from __future__ import annotations

import hashlib

import orjson
from aiohttp import hdrs, web

from telecast.channels.channel import Channel
from telecast.errors import Code, PeerFault
from telecast.model import Event, Position, Principal, rfc3339
from telecast.protocol.subscription import narrowed
from telecast.tape.selection import Selection, filter_of
from telecast.tape.tape import Tape
from telecast.web.api.asking import parameters
from telecast.web.auth.credentials import require
from telecast.web.front.answers import ok_bytes
from telecast.web.parts import parts_from

CACHING = "private, no-cache"
"""Keep it, for this key alone, and ask before it is used again."""


async def row(request: web.Request) -> web.Response:
    """The current row of a key, with an `ETag`; nothing but 304 for one who has it already."""
    entry, principal = readable(request)
    parts = parts_from(request)
    named = request.match_info.get("key")
    key = parameters(request, ("key",) if named is None else ()).get("key") or named
    if key is None:
        raise PeerFault(Code.BAD_REQUEST, "Name the row: /rows/KEY, or /rows?key=KEY.")
    selection = Selection({entry.name: filter_of(narrowed(entry, {}, principal))})
    event = parts.tape.row(entry.name, key)
    if event is None or not selection.wants(event):
        # The same for a row that the key may not see: it must not learn that there is one.
        raise PeerFault(Code.ROW_NOT_FOUND, f"{entry.name} has no row {key[:128]!r} now.")
    tag = f"{Position(parts.journal.epoch, event.seq)}"
    return unless_known(request, tag) or ok_bytes(row_bytes(event), headers=validators(tag))


def readable(request: web.Request) -> tuple[Channel, Principal]:
    """The channel of the address, and who may read it. Raises PeerFault."""
    principal = require(request, "read")
    entry = parts_from(request).catalogue.named(request.match_info["channel"])
    if not entry.reached_by(principal):
        raise PeerFault(Code.FORBIDDEN, f"This key may not read {entry.name!r}.")
    return entry, principal


def row_bytes(event: Event) -> bytes:
    """A row as snapshots have it."""
    answer = {"key": event.key, "seq": event.seq, "updatedAt": rfc3339(event.timestamp / 1000)}
    return b'%b,"data":%b}' % (orjson.dumps(answer)[:-1], orjson.dumps(event.row))


def rows_tag(tape: Tape, epoch: str, channel: str, selection: Selection) -> str:
    """Names the rows of a channel under a selection: two that have one tag are the same.

    They follow from the channel's events up to a seq, of which the newest may be trimmed by now:
    then the floor is past it.
    """
    log = tape.logs[channel]
    last = max(log.whole_from, 0 if log.last is None else log.last.seq)
    chosen = [[name, sorted(values)] for name, values in selection.filter(channel)]
    digest = hashlib.blake2b(orjson.dumps(chosen), digest_size=8).hexdigest()
    return f"{Position(epoch, last)}-{digest}"


def validators(tag: str) -> dict[str, str]:
    # Weak: the envelope has the time of the answer, and a snapshot the newest position.
    return {hdrs.ETAG: f'W/"{tag}"', hdrs.CACHE_CONTROL: CACHING}


def unless_known(request: web.Request, tag: str) -> web.Response | None:
    """304 for one whose If-None-Match has the tag (RFC 9110 §13.1.2)."""
    anything = request.headers.get(hdrs.IF_NONE_MATCH) == "*"
    if anything or any(each.value == tag for each in request.if_none_match or ()):
        return web.Response(status=304, headers=validators(tag))
    return None
