"""Every way in which Telecast says no.

    TelecastError
    ├── PeerFault              the caller must change something before trying again
    │   ├── PositionMalformed
    │   ├── ValidationFailed   carries every bad field of every bad item
    │   ├── IdempotencyConflict
    │   └── IdempotencyExhausted
    ├── OwnFault               ours: the same request may well succeed later
    │   ├── JournalUnavailable
    │   │   ├── JournalFull
    │   │   └── JournalLocked
    │   ├── JournalCorrupt
    │   └── Conflict           a row moved under a writer's feet; the writer derives again
    └── SettingsError          the operator's: the service does not start

What a caller is sent stands with each Code: the HTTP status, the WebSocket close code
where the refusal ends a connection, whether to try again unchanged, and what to do next.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Rule:
    """What follows from a code. `close` is the WebSocket close code where it ends a connection."""

    http: int
    close: int | None
    retryable: bool
    advice: str


class Code(StrEnum):
    """Every error code of the service. The value is the word on the wire."""

    rule: Rule

    def __new__(cls, word: str, rule: Rule) -> Self:
        code = str.__new__(cls, word)
        code._value_ = word
        code.rule = rule
        return code

    # the request itself
    BAD_REQUEST = (
        "BAD_REQUEST",
        Rule(400, 4400, False, "Correct the request as the message says."),
    )
    MALFORMED_REQUEST = (
        "MALFORMED_REQUEST",
        Rule(400, None, False, "Speak HTTP/1.1 (RFC 9112); the connection is closed."),
    )
    BAD_JSON = ("BAD_JSON", Rule(400, 4400, False, "Send one valid JSON text in UTF-8 (RFC 8259)."))
    POSITION_MALFORMED = (
        "POSITION_MALFORMED",
        Rule(400, 4400, False, "Send a position as it was received, such as k3v9:1042."),
    )
    LIMIT_EXCEEDED = (
        "LIMIT_EXCEEDED",
        Rule(400, 4400, False, "Ask for less; `details` names the limit."),
    )
    UNKNOWN_ACTION = (
        "UNKNOWN_ACTION",
        Rule(400, 4400, False, "Use an action of the wire contract, section 5."),
    )
    UNKNOWN_FILTER = (
        "UNKNOWN_FILTER",
        Rule(400, 4400, False, "Use a filter that a chosen channel declares."),
    )
    UNKNOWN_CHANNEL = (
        "UNKNOWN_CHANNEL",
        Rule(404, None, False, "GET /api/v1/channels, or `telecast channels`, lists them."),
    )
    NOT_FOUND = (
        "NOT_FOUND",
        Rule(404, None, False, "Check the path; /api/v1/channels is a good start."),
    )
    NODE_NOT_FOUND = (
        "NODE_NOT_FOUND",
        Rule(404, None, False, "GET /api/v1/nodes, or `telecast cluster status`, lists them."),
    )
    CLIENT_NOT_FOUND = (
        "CLIENT_NOT_FOUND",
        Rule(404, None, False, "GET /api/v1/clients lists the connections that are open."),
    )
    ROW_NOT_FOUND = ("ROW_NOT_FOUND", Rule(404, None, False, "The channel has no such row now."))
    POSITION_UNKNOWN = (
        "POSITION_UNKNOWN",
        Rule(410, None, False, "Start over from a snapshot: this journal has no such position."),
    )
    CONSUMER_NOT_FOUND = (
        "CONSUMER_NOT_FOUND",
        Rule(404, None, False, "GET /api/v1/consumers lists those that have acknowledged."),
    )
    CLIENT_UNNAMED = (
        "CLIENT_UNNAMED",
        Rule(400, None, False, "Connect with `clientId`: what is acknowledged is kept by it."),
    )
    ACK_AHEAD = (
        "ACK_AHEAD",
        Rule(409, None, False, "Acknowledge what you have received; `details` has both positions."),
    )
    METHOD_NOT_ALLOWED = (
        "METHOD_NOT_ALLOWED",
        Rule(405, None, False, "Use a method that `Allow` names."),
    )
    TOO_SLOW = (
        "TOO_SLOW",
        Rule(408, None, True, "Send the whole request sooner; the connection is closed."),
    )
    IDEMPOTENCY_CONFLICT = (
        "IDEMPOTENCY_CONFLICT",
        Rule(409, None, False, "Use a new Idempotency-Key for a different body."),
    )
    ROWS_EXHAUSTED = (
        "ROWS_EXHAUSTED",
        Rule(409, None, False, "Withdraw rows that have ended, or have the operator raise it."),
    )
    ROW_MOVED = (
        "ROW_MOVED",
        Rule(409, None, False, "Read the row as it is now, then decide again."),
    )
    ALERT_ACKNOWLEDGED = (
        "ALERT_ACKNOWLEDGED",
        Rule(
            409,
            None,
            False,
            "Somebody is on it; `unacknowledge` (`telecast ack --undo`) takes that back.",
        ),
    )
    BODY_TOO_LARGE = ("BODY_TOO_LARGE", Rule(413, 1009, False, "Send smaller batches."))
    UNSUPPORTED_MEDIA_TYPE = (
        "UNSUPPORTED_MEDIA_TYPE",
        Rule(415, None, False, "Send application/json or application/x-ndjson, not compressed."),
    )
    ADDRESS_TOO_LONG = (
        "ADDRESS_TOO_LONG",
        Rule(414, None, False, "Ask for less in the address, or subscribe over a WebSocket."),
    )
    UPGRADE_REQUIRED = (
        "UPGRADE_REQUIRED",
        Rule(426, None, False, "Connect as a WebSocket of version 13 (RFC 6455)."),
    )
    VALIDATION_FAILED = (
        "VALIDATION_FAILED",
        Rule(422, None, False, "Correct the fields that `details` lists."),
    )
    NOT_AVAILABLE = ("NOT_AVAILABLE", Rule(501, None, False, "This service does not offer it yet."))
    # who asks
    UNAUTHENTICATED = (
        "UNAUTHENTICATED",
        Rule(401, 4401, False, "Send a valid key in X-API-Key or as Authorization: Bearer."),
    )
    KEY_EXPIRED = (
        "KEY_EXPIRED",
        Rule(
            401,
            4401,
            False,
            "Ask the operator for a new key: `telecast keys new NAME --scope ...`.",
        ),
    )
    TICKET_SPENT = (
        "TICKET_SPENT",
        Rule(401, None, False, "Fetch a new ticket for each stream that is opened."),
    )
    SESSION_OVER = ("SESSION_OVER", Rule(401, 4401, False, "Sign in again."))
    FORBIDDEN = (
        "FORBIDDEN",
        Rule(
            403,
            4403,
            False,
            "Ask the operator for a key with this right: `telecast keys new NAME --scope ...`.",
        ),
    )
    FORBIDDEN_ORIGIN = (
        "FORBIDDEN_ORIGIN",
        Rule(403, None, False, "Have the operator list this page's origin."),
    )
    # how much
    IDEMPOTENCY_EXHAUSTED = (
        "IDEMPOTENCY_EXHAUSTED",
        Rule(429, None, True, "Publish in batches, one key each; keys are forgotten after a day."),
    )
    TOO_MANY_ACTIONS = ("TOO_MANY_ACTIONS", Rule(429, 4429, True, "Send fewer actions a second."))
    TOO_MUCH_AT_ONCE = (
        "TOO_MUCH_AT_ONCE",
        Rule(429, None, True, "Read the answers that are under way, or send fewer bodies at once."),
    )
    TOO_MANY_CONNECTIONS = (
        "TOO_MANY_CONNECTIONS",
        Rule(429, None, True, "Close a connection, or come back later."),
    )
    TOO_MANY_CONSUMERS = (
        "TOO_MANY_CONSUMERS",
        Rule(429, None, True, "Use a clientId again, or ask the operator to forget old ones."),
    )
    TOO_MANY_WRONG_KEYS = (
        "TOO_MANY_WRONG_KEYS",
        Rule(429, None, True, "Use a right key; it is let in at any time."),
    )
    TOO_MANY_BAD_MESSAGES = (
        "TOO_MANY_BAD_MESSAGES",
        Rule(400, 4400, False, "Read the errors before this close."),
    )
    REPLACED = (
        "REPLACED",
        Rule(409, 4409, False, "A newer connection of the same clientId took its place."),
    )
    KICKED = (
        "KICKED",
        Rule(403, 4410, True, "An operator ended the connection; come back after the pause."),
    )
    BANNED = (
        "BANNED",
        Rule(403, None, True, "Come back after the time that Retry-After says."),
    )
    NO_SIGN_OF_LIFE = (
        "NO_SIGN_OF_LIFE",
        Rule(408, 4408, True, "Answer pings; resume from the last position."),
    )
    NO_PROGRESS = (
        "NO_PROGRESS",
        Rule(408, 4430, True, "Read faster, or ask for less; then resume."),
    )
    # our side
    OVERLOADED = (
        "OVERLOADED",
        Rule(503, 1013, True, "Come back after the time that Retry-After says."),
    )
    SHUTTING_DOWN = (
        "SHUTTING_DOWN",
        Rule(503, 1001, True, "Resume from the last position after a pause."),
    )
    JOURNAL_UNAVAILABLE = (
        "JOURNAL_UNAVAILABLE",
        Rule(
            *(503, None, True),
            "Try again later; where `details.unknown` is true, under the same idempotency key.",
        ),
    )
    NODE_SILENT = (
        "NODE_SILENT",
        Rule(503, None, True, "Ask again; `telecast cluster status` shows which node is silent."),
    )
    CONFLICT = ("CONFLICT", Rule(503, None, True, "Others kept changing the same rows; try again."))
    INTERNAL = (
        "INTERNAL",
        Rule(500, 1011, True, "Resume with back-off; tell the operator the correlation id."),
    )


CODES: Mapping[str, Rule] = {code: code.rule for code in Code}


KEY = re.compile(r"tc_[0-9a-f]{8}_[0-9a-f]{8,64}", re.ASCII | re.IGNORECASE)
"""One of our keys, or one that was cut off: what quotes it must not hand it on."""
REDACTED = "[redacted]"


class TelecastError(Exception):
    """A refusal. `details` is JSON-ready and safe to show the caller. `code` is a Code, but in a
    client a server's word that may be newer than it.

    A message may quote what was sent: a key that stood in the wrong place is taken out of it.
    `retry_after` is in seconds: what the caller should wait, 0 where nothing in particular.
    """

    def __init__(
        self, code: str, message: str, details: Any = None, *, retry_after: float = 0.0
    ) -> None:
        message = KEY.sub(REDACTED, message)
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after = retry_after
        self.details = (
            {**(details or {}), "retryAfterSeconds": retry_after} if retry_after else details
        )

    @property
    def rule(self) -> Rule:
        return CODES[self.code]

    @property
    def retryable(self) -> bool:
        return self.rule.retryable


class PeerFault(TelecastError):
    """The caller's request can't be done as it stands."""

    code: Code

    def __init__(
        self, code: Code, message: str, details: Any = None, *, retry_after: float = 0.0
    ) -> None:
        super().__init__(code, message, details, retry_after=retry_after)


class PositionMalformed(PeerFault):
    def __init__(self, text: str) -> None:
        super().__init__(
            Code.POSITION_MALFORMED,
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
            Code.VALIDATION_FAILED,
            f"{where}: {first['message']}{more}",
            {"problems": list(problems), "total": total},
        )


class IdempotencyConflict(PeerFault):
    def __init__(self) -> None:
        super().__init__(
            Code.IDEMPOTENCY_CONFLICT,
            "This Idempotency-Key was used for a different body within the last 24 hours.",
        )


class IdempotencyExhausted(PeerFault):
    """No more idempotency keys of this principal, or of all, are remembered. Known ones are."""

    def __init__(self, message: str) -> None:
        super().__init__(Code.IDEMPOTENCY_EXHAUSTED, message, retry_after=60)


class OwnFault(TelecastError):
    """The service can't do it now."""

    code: Code

    def __init__(
        self, code: Code, message: str, details: Any = None, *, retry_after: float = 0.0
    ) -> None:
        super().__init__(code, message, details, retry_after=retry_after)


class JournalUnavailable(OwnFault):
    """The journal did not take the batch: nothing of it is committed.

    With `outcome_unknown` it may have been committed: the caller repeats it under its
    idempotency key, which then answers. The caller reads the same in `details`.
    """

    def __init__(self, message: str, *, outcome_unknown: bool = False) -> None:
        details = {"unknown": True} if outcome_unknown else None
        super().__init__(Code.JOURNAL_UNAVAILABLE, message, details)
        self.outcome_unknown = outcome_unknown


class JournalFull(JournalUnavailable):
    """No space is left for the journal; it takes batches again once there is."""


class JournalLocked(JournalUnavailable):
    """Another process owns the journal."""


class JournalCorrupt(OwnFault):
    """The journal's file is not one, or is damaged: the service does not start on it."""

    def __init__(self, message: str) -> None:
        super().__init__(Code.JOURNAL_UNAVAILABLE, message)


class Conflict(OwnFault):
    """A row is not at the seq that the batch relied on. `keys` are (channel, key) pairs."""

    def __init__(self, keys: Sequence[tuple[str, str]]) -> None:
        super().__init__(Code.CONFLICT, "Rows that the batch relied on have changed.")
        self.keys = tuple(keys)


class SettingsError(TelecastError):
    """The settings don't fit. `problems` are sentences, each with the setting and its source."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(Code.BAD_REQUEST, "\n".join(problems))
        self.problems = tuple(problems)
