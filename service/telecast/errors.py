"""Every way in which Telecast says no.

    TelecastError
    ├── PeerFault              the caller must change something before trying again
    │   ├── PositionMalformed
    │   ├── ValidationFailed   carries every bad field of every bad item
    │   └── IdempotencyConflict
    ├── OwnFault               ours: the same request may well succeed later
    │   ├── JournalUnavailable
    │   │   ├── JournalFull
    │   │   └── JournalLocked
    │   ├── JournalCorrupt
    │   └── Conflict           a row moved under a writer's feet; the writer derives again
    └── SettingsError          the operator's: the service does not start

What a caller is told stands in one table, CODES: the HTTP status, the WebSocket close code
where the refusal ends a connection, whether to try again unchanged, and what to do next.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Code:
    http: int
    close: int | None
    retryable: bool
    advice: str


CODES: Mapping[str, Code] = {
    # the request itself
    "BAD_REQUEST": Code(400, 4400, False, "Correct the request as the message says."),
    "MALFORMED_REQUEST": Code(
        400, None, False, "Speak HTTP/1.1 (RFC 9112); the connection is closed."
    ),
    "BAD_JSON": Code(400, 4400, False, "Send one valid JSON text in UTF-8 (RFC 8259)."),
    "POSITION_MALFORMED": Code(
        400, 4400, False, "Send a position as it was received, such as k3v9:1042."
    ),
    "LIMIT_EXCEEDED": Code(400, 4400, False, "Ask for less; `details` names the limit."),
    "UNKNOWN_ACTION": Code(400, 4400, False, "Use an action of the wire contract, section 5."),
    "UNKNOWN_FILTER": Code(400, 4400, False, "Use a filter that a chosen channel declares."),
    "UNKNOWN_CHANNEL": Code(404, None, False, "GET /api/v1/channels lists the channels."),
    "NOT_FOUND": Code(404, None, False, "Check the path; /api/v1/channels is a good start."),
    "ROW_NOT_FOUND": Code(404, None, False, "The channel has no such row now."),
    "POSITION_UNKNOWN": Code(
        410, None, False, "Start over from a snapshot: this journal has no such position."
    ),
    "METHOD_NOT_ALLOWED": Code(405, None, False, "Use a method that `Allow` names."),
    "TOO_SLOW": Code(408, None, True, "Send the whole request sooner; the connection is closed."),
    "IDEMPOTENCY_CONFLICT": Code(
        409, None, False, "Use a new Idempotency-Key for a different body."
    ),
    "BODY_TOO_LARGE": Code(413, 1009, False, "Send smaller batches."),
    "UNSUPPORTED_MEDIA_TYPE": Code(
        415, None, False, "Send application/json or application/x-ndjson, not compressed."
    ),
    "UPGRADE_REQUIRED": Code(426, None, False, "Connect as a WebSocket of version 13 (RFC 6455)."),
    "VALIDATION_FAILED": Code(422, None, False, "Correct the fields that `details` lists."),
    "NOT_AVAILABLE": Code(501, None, False, "This service does not offer it yet."),
    # who asks
    "UNAUTHENTICATED": Code(
        401, 4401, False, "Send a valid key in X-API-Key or as Authorization: Bearer."
    ),
    "KEY_EXPIRED": Code(401, 4401, False, "Ask the operator for a new key."),
    "TICKET_SPENT": Code(401, None, False, "Fetch a new ticket for each stream that is opened."),
    "SESSION_OVER": Code(401, None, False, "Sign in again."),
    "FORBIDDEN": Code(403, 4403, False, "Ask the operator for a key with this right."),
    "FORBIDDEN_ORIGIN": Code(403, None, False, "Have the operator list this page's origin."),
    # how much
    "TOO_MANY_ACTIONS": Code(429, 4429, True, "Send fewer actions a second."),
    "TOO_MANY_CONNECTIONS": Code(429, None, True, "Close a connection, or come back later."),
    "TOO_MANY_WRONG_KEYS": Code(429, None, True, "Use a right key; it is let in at any time."),
    "TOO_MANY_BAD_MESSAGES": Code(400, 4400, False, "Read the errors before this close."),
    "REPLACED": Code(409, 4409, False, "A newer connection of the same clientId took its place."),
    "NO_SIGN_OF_LIFE": Code(408, 4408, True, "Answer pings; resume from the last position."),
    "NO_PROGRESS": Code(408, 4430, True, "Read faster, or ask for less; then resume."),
    # our side
    "OVERLOADED": Code(503, 1013, True, "Come back after the time that Retry-After says."),
    "SHUTTING_DOWN": Code(503, 1012, True, "Resume from the last position after a pause."),
    "JOURNAL_UNAVAILABLE": Code(
        503, None, True, "Nothing was committed that was not acknowledged; try again later."
    ),
    "CONFLICT": Code(503, None, True, "Others kept changing the same rows; try again."),
    "INTERNAL": Code(
        500, 1011, True, "Resume with back-off; tell the operator the correlation id."
    ),
}


KEY = re.compile(r"tc_[0-9a-f]{8}_[0-9a-f]{8,64}", re.ASCII | re.IGNORECASE)
"""One of our keys, or one that was cut off: what quotes it must not hand it on."""
REDACTED = "[redacted]"


class TelecastError(Exception):
    """A refusal with a code of CODES. `details` is JSON-ready and safe to show the caller.

    A message may quote what was sent: a key that stood in the wrong place is taken out of it.
    """

    def __init__(self, code: str, message: str, details: Any = None) -> None:
        message = KEY.sub(REDACTED, message)
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details

    @property
    def rule(self) -> Code:
        return CODES[self.code]

    @property
    def retryable(self) -> bool:
        return self.rule.retryable


class PeerFault(TelecastError):
    """The caller's request can't be done as it stands."""


class PositionMalformed(PeerFault):
    def __init__(self, text: str) -> None:
        super().__init__(
            "POSITION_MALFORMED",
            f"{text[:64]!r} is no position: it reads epoch:seq, such as k3v9:1042.",
        )


class ValidationFailed(PeerFault):
    """One or more items of a publish don't fit their channel's schema; nothing was committed.

    `problems` has one dict per bad field: {"item": int, "field": str, "message": str}, the first
    MOST of `total`.
    """

    MOST = 100

    def __init__(self, problems: Sequence[Mapping[str, Any]], total: int) -> None:
        first = problems[0]
        where = f"item {first['item']}" + (f", {first['field']}" if first["field"] else "")
        more = f" (and {total - 1} more)" if total > 1 else ""
        super().__init__(
            "VALIDATION_FAILED",
            f"{where}: {first['message']}{more}",
            {"problems": list(problems), "total": total},
        )


class IdempotencyConflict(PeerFault):
    def __init__(self) -> None:
        super().__init__(
            "IDEMPOTENCY_CONFLICT",
            "This Idempotency-Key was used for a different body within the last 24 hours.",
        )


class OwnFault(TelecastError):
    """The service can't do it now."""


class JournalUnavailable(OwnFault):
    """The journal did not take the batch: nothing of it is committed."""

    def __init__(self, message: str, details: Any = None) -> None:
        super().__init__("JOURNAL_UNAVAILABLE", message, details)


class JournalFull(JournalUnavailable):
    """No space is left for the journal; it takes batches again once there is."""


class JournalLocked(JournalUnavailable):
    """Another process owns the journal."""


class JournalCorrupt(OwnFault):
    """The journal's file is not one, or is damaged: the service does not start on it."""

    def __init__(self, message: str) -> None:
        super().__init__("JOURNAL_UNAVAILABLE", message)


class Conflict(OwnFault):
    """A row is not at the seq that the batch relied on. `keys` are (channel, key) pairs."""

    def __init__(self, keys: Sequence[tuple[str, str]]) -> None:
        super().__init__("CONFLICT", "Rows that the batch relied on have changed.")
        self.keys = tuple(keys)


class SettingsError(TelecastError):
    """The settings don't fit. `problems` are sentences, each with the setting and its source."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("BAD_REQUEST", "\n".join(problems))
        self.problems = tuple(problems)
