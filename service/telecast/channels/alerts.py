"""The life of an alert: what publishers report, what operators do, what the server keeps of it.

A publisher reports ACTIVE and RESOLVED. What follows ACTIVE belongs to the server, and the row
itself holds it, so it is committed and resumed like everything else:

- A repeat raises `count` and `lastSeenAt`. It never undoes an acknowledgement.
- A rise in severity makes the alert ACTIVE again, unacknowledged: it is another thing to look at.
- RESOLVED ends the row. ACTIVE after that is a new life, with a `count` of 1.

`now` is the server's time as RFC 3339; nothing here reads a clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, StrEnum, auto

from telecast.errors import Code, PeerFault
from telecast.model import Row

SEVERITIES = ("INFO", "WARNING", "CRITICAL")
"""From the least to the most severe."""


class Status(StrEnum):
    ACTIVE = "ACTIVE"
    ACKNOWLEDGED = "ACKNOWLEDGED"
    RESOLVED = "RESOLVED"


class Act(Enum):
    REPEAT = auto()
    RISE = auto()
    RESOLVE = auto()
    ACKNOWLEDGE = auto()
    UNACKNOWLEDGE = auto()


MOVES: Mapping[tuple[Status, Act], Status] = {
    (Status.ACTIVE, Act.REPEAT): Status.ACTIVE,
    (Status.ACTIVE, Act.RISE): Status.ACTIVE,
    (Status.ACTIVE, Act.RESOLVE): Status.RESOLVED,
    (Status.ACTIVE, Act.ACKNOWLEDGE): Status.ACKNOWLEDGED,
    (Status.ACTIVE, Act.UNACKNOWLEDGE): Status.ACTIVE,
    (Status.ACKNOWLEDGED, Act.REPEAT): Status.ACKNOWLEDGED,
    (Status.ACKNOWLEDGED, Act.RISE): Status.ACTIVE,
    (Status.ACKNOWLEDGED, Act.RESOLVE): Status.RESOLVED,
    (Status.ACKNOWLEDGED, Act.ACKNOWLEDGE): Status.ACKNOWLEDGED,
    (Status.ACKNOWLEDGED, Act.UNACKNOWLEDGE): Status.ACTIVE,
}
"""A resolved alert has no moves: its row is gone."""

UNACKNOWLEDGED: Mapping[str, None] = {"acknowledgedBy": None, "acknowledgedAt": None, "note": None}


def move(status: Status, act: Act) -> Status:
    return MOVES[status, act]


def owned(row: Row) -> Row:
    """A publisher's row with the server's fields, as they are at a first report."""
    return {
        **row,
        "count": 1,
        "lastSeenAt": row["createdAt"],
        **UNACKNOWLEDGED,
        "activeSince": None,
        "escalatedAt": None,
    }


def follow(before: Row | None, row: Row, now: str) -> Row:
    """What a publisher's report makes of the alert that there is, if there is one."""
    if before is None:
        return {**row, "activeSince": now}
    status = Status(before["status"])
    act = _reported(before, row)
    after = move(status, act)
    kept = {
        "status": after,
        "createdAt": before["createdAt"],
        "count": before["count"] + (act is not Act.RESOLVE),
        "lastSeenAt": now,
        "activeSince": before.get("activeSince"),
        "escalatedAt": before.get("escalatedAt"),
    }
    if act is Act.RISE:
        return {**row, **kept, **_active(now)}
    return {**row, **kept, **{name: before[name] for name in UNACKNOWLEDGED}}


def acknowledge(row: Row, by: str, note: str | None, now: str) -> Row:
    """The alert as `by` has acknowledged it; the same row where that changes nothing.

    Raises PeerFault ALERT_ACKNOWLEDGED where somebody else was first.
    """
    status = Status(row["status"])
    if status is Status.ACKNOWLEDGED:
        if row["acknowledgedBy"] != by:
            raise PeerFault(
                Code.ALERT_ACKNOWLEDGED,
                f"{row['acknowledgedBy']} acknowledged this alert at {row['acknowledgedAt']}.",
                {name: row[name] for name in UNACKNOWLEDGED},
            )
        if note is None or note == row["note"]:
            return row
    after = move(status, Act.ACKNOWLEDGE)
    return {**row, "status": after, "acknowledgedBy": by, "acknowledgedAt": now, "note": note}


def unacknowledge(row: Row, now: str) -> Row:
    """The alert as nobody has acknowledged it; the same row where nobody had."""
    status = Status(row["status"])
    if status is Status.ACTIVE:
        return row
    return {**row, "status": move(status, Act.UNACKNOWLEDGE), **_active(now)}


def escalate(row: Row, now: str) -> Row:
    """The alert with the time of its escalation; the same row where it is not due any more."""
    if not waits(row):
        return row
    return {**row, "escalatedAt": now}


def waits(row: Row) -> bool:
    """Whether the alert is critical, nobody has acknowledged it, and it was not escalated."""
    return (
        row["severity"] == SEVERITIES[-1]
        and row["status"] == Status.ACTIVE
        and row.get("escalatedAt") is None
    )


def _reported(before: Row, row: Row) -> Act:
    if row["status"] == Status.RESOLVED:
        return Act.RESOLVE
    rises = SEVERITIES.index(row["severity"]) > SEVERITIES.index(before["severity"])
    return Act.RISE if rises else Act.REPEAT


def _active(now: str) -> Row:
    """Active from now on: who had acknowledged it before does not count, and it may escalate."""
    return {**UNACKNOWLEDGED, "activeSince": now, "escalatedAt": None}
