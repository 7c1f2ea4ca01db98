"""The server's messages, wire contract section 4. `now` is in ms since 1970."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import orjson

from telecast.errors import TelecastError
from telecast.model import MAX_SEQ, Entry, Event, Position
from telecast.protocol.framing import Message

PROTOCOL_VERSION = 1
ReqId = str | int | None
"""What a client names a message by, as it came; None: it did not."""
SnapshotReason = Literal[
    "NEW",
    "EPOCH_CHANGED",
    "POSITION_EXPIRED",
    "POSITION_UNKNOWN",
    "POSITION_MALFORMED",
    "RIGHTS_CHANGED",
]


def _message(kind: str, now: int, body: Mapping[str, Any], at: Position | None = None) -> Message:
    return Message(kind, orjson.dumps({"type": kind, **body, "timestamp": now}), at)


def event_of(entry: Entry, fields: Mapping[str, str | None], word: str | None = None) -> Event:
    """An entry as it is sent over every transport: the JSON is made here, once.

    `word` is what its operation is called there, where that is not its name.
    """
    json = b'{"type":"event","channel":%b,"seq":%d,"op":"%b","key":%b,"data":%b,"timestamp":%d}' % (
        orjson.dumps(entry.channel),
        entry.seq,
        (word or entry.op).encode(),
        orjson.dumps(entry.key),
        entry.data,
        entry.timestamp,
    )
    return Event(
        entry.seq,
        entry.channel,
        entry.key,
        entry.op,
        entry.pinned,
        entry.timestamp,
        fields,
        json,
    )


_ENVELOPE = (
    len(b'{"type":"event","channel":,"seq":,"op":"upsert","key":,"data":,"timestamp":}')
    + len(str(MAX_SEQ))
    + 13
)


def envelope_bytes(channel: str, key: str) -> int:
    """Bytes of an event beside its row, at the most."""
    return _ENVELOPE + len(orjson.dumps(channel)) + len(orjson.dumps(key))


def welcome(
    now: int,
    *,
    client_id: str | None,
    connection_id: str,
    head: Position,
    heartbeat_seconds: int,
    limits: Mapping[str, int],
    node: str | None = None,
) -> Message:
    """`node` is this node's name where several share a journal."""
    body: dict[str, Any] = {
        "clientId": client_id,
        "connectionId": connection_id,
        "protocol": PROTOCOL_VERSION,
        "head": str(head),
        "heartbeatSeconds": heartbeat_seconds,
        "limits": dict(limits),
    }
    if node is not None:
        body["node"] = node
    return _message("welcome", now, body)


def ack(
    now: int,
    *,
    action: str,
    req_id: ReqId,
    channels: Sequence[str],
    rejected: Sequence[Mapping[str, str]],
    delivery: str,
    max_rate: float | None,
    extra: Mapping[str, Any] | None = None,
) -> Message:
    """What now holds after an action. `extra` has the fields of this action alone."""
    body = {
        "action": action,
        "reqId": req_id,
        "channels": list(channels),
        "rejected": list(rejected),
        "delivery": delivery,
        "maxRate": max_rate,
        **(extra or {}),
    }
    return _message("ack", now, body)


def snapshot(now: int, channels: Sequence[str], reason: SnapshotReason) -> Message:
    return _message("snapshot", now, {"channels": list(channels), "reason": reason})


def resume(now: int, start: Position, channels: Sequence[str]) -> Message:
    return _message("resume", now, {"from": str(start), "channels": list(channels)})


def leave(now: int, channel: str, keys: Sequence[str]) -> Message:
    """The client is to drop these rows: its filter does not take them any more."""
    return _message("leave", now, {"channel": channel, "keys": list(keys)})


def live(now: int, position: Position, count: int) -> Message:
    return _message("live", now, {"position": str(position), "count": count}, position)


def conflated(now: int, from_seq: int, to_seq: int, count: int | None) -> Message:
    """Between these seqs, both included, rows were left out: `count` of them, where known."""
    known = {} if count is None else {"count": count}
    return _message("conflated", now, {"fromSeq": from_seq, "toSeq": to_seq, **known})


def gap(now: int, channel: str, from_seq: int, to_seq: int) -> Message:
    """Between these seqs, both included, events of the channel exist no more."""
    return _message("gap", now, {"channel": channel, "fromSeq": from_seq, "toSeq": to_seq})


def heartbeat(now: int, position: Position) -> Message:
    return _message("heartbeat", now, {"position": str(position)}, position)


def stale(now: int, channel: str, since: int | None) -> Message:
    """No event and no sign of life of a publisher has come since `since` (ms since 1970), or ever
    where that is None."""
    return _message("stale", now, {"channel": channel, "since": since})


def fresh(now: int, channel: str) -> Message:
    """A channel that was stale goes on."""
    return _message("fresh", now, {"channel": channel})


def notice(now: int, fault: TelecastError, retry_after_ms: int | None = None) -> Message:
    body = {
        "code": fault.code,
        "message": fault.message,
        "retryAfterMs": retry_after_ms,
        "retryable": fault.retryable,
    }
    return _message("notice", now, body)


def error(now: int, fault: TelecastError, req_id: ReqId = None) -> Message:
    body = {
        "reqId": req_id,
        "code": fault.code,
        "message": fault.message,
        "details": fault.details,
        "advice": fault.rule.advice,
        "retryable": fault.retryable,
    }
    return _message("error", now, body)
