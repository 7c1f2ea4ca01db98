"""How the client says no: what the server refused, and what never reached it.

TelecastError
├── Refused          the service answered, and said no
├── BadAnswer        something answered that does not speak our protocol
├── Unreachable      nobody answered
├── Behind           the caller took what came too slowly, and had asked for this error
└── Closed           the client was closed by its own side
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from telecast.errors import CODES, Rule, TelecastError

WORTH_RETRYING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP statuses after which the same request may well succeed (RFC 9110 §15)."""

MOST_ASKED_SECONDS = 300.0
"""The longest wait that a server may impose: beyond it a typo in a proxy would be for ever."""


class ClientFault(TelecastError):
    """A fault with a rule of its own: a server may be newer than our table of codes."""

    def __init__(self, code: str, message: str, rule: Rule, details: Any = None) -> None:
        super().__init__(code, message, details)
        self._rule = rule

    def __str__(self) -> str:
        """With the advice: it is the last line of a traceback, and all that some people read."""
        return f"{self.message} {self._rule.advice}"

    @property
    def rule(self) -> Rule:
        return self._rule


class Refused(ClientFault):
    """The service said no. `code`, `message` and `details` are the server's own words.

    `status` is the HTTP status, or for a stream that was ended the one that its code stands for;
    `retry_after` the seconds that the server asked to wait, 0 where it did not.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int,
        details: Any = None,
        advice: str | None = None,
        retry_after: float = 0.0,
        retryable: bool | None = None,
    ) -> None:
        known = CODES.get(code)
        if advice is None:
            advice = known.advice if known else "The message says what was wrong."
        if retryable is None:
            retryable = status in WORTH_RETRYING
        rule = Rule(status, None, retryable, advice)
        super().__init__(code, message, rule, details)
        self.status = status
        self.retry_after = retry_after


class BadAnswer(ClientFault):
    """What answers there is no Telecast service, or one of another protocol version."""

    def __init__(self, message: str) -> None:
        advice = "Check the address: it is that of the service, such as http://127.0.0.1:8080."
        super().__init__("BAD_ANSWER", message, Rule(502, None, False, advice))


class Unreachable(ClientFault):
    """Nobody answers. Nothing says whether the last request was acted upon."""

    def __init__(self, message: str) -> None:
        advice = "Check the address, and that the service runs there."
        super().__init__("UNREACHABLE", message, Rule(503, None, True, advice))


class Behind(ClientFault):
    """`follow` with `when_full="fail"`: the buffer is full. Go on from the last position."""

    def __init__(self, size: int) -> None:
        message = f"{size} changes wait to be taken: the caller is slower than they come."
        advice = "Handle changes faster, or let `when_full` be wait or conflate."
        super().__init__("BEHIND", message, Rule(503, None, True, advice))


class Closed(ClientFault):
    """The client was closed while something still waited for it."""

    def __init__(self) -> None:
        advice = "Use it within its `with` block, and no later."
        super().__init__(
            "CLOSED", "This client, or this view of it, is closed.", Rule(503, None, False, advice)
        )


def refusal_of(status: int, headers: Mapping[str, str], body: bytes) -> Refused:
    """The REST error body (wire contract, section 10), or the best to be made of another."""
    wait = seconds_of(headers.get("Retry-After"), time.time())
    try:
        error = orjson.loads(body)["error"]
        return Refused(
            str(error["code"]),
            str(error["message"]),
            status=status,
            details=error.get("details"),
            advice=error.get("advice"),
            retry_after=wait,
            retryable=_yes_or_no(error.get("retryable")),
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        pass
    if 300 <= status < 400:
        to = headers.get("Location", "elsewhere")
        return Refused(
            "REDIRECTED",
            f"The address leads on to {to}.",
            status=status,
            advice="A key is never sent on: name the final address yourself.",
        )
    start = body[:200].decode(errors="replace").strip()
    return Refused(
        "REFUSED",
        f"It answered {status}" + (f": {start}" if start else "."),
        status=status,
        retry_after=wait,
        advice="Check the address, and what stands between here and the service.",
    )


def _yes_or_no(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def seconds_of(retry_after: str | None, now: float) -> float:
    """`Retry-After` (RFC 9110 §10.2.3) in seconds, bounded; 0 for none or nonsense."""
    if not retry_after:
        return 0.0
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), MOST_ASKED_SECONDS)
    try:
        then = parsedate_to_datetime(text).timestamp()
    except ValueError:
        return 0.0
    return min(max(0.0, then - now), MOST_ASKED_SECONDS)


def check_notice(notice: Mapping[str, Any]) -> None:
    """Raises Refused where the end that a stream's notice announces is final, whatever its close
    code: a cut line shows as 1000 in some libraries, a drain as 1002 in others."""
    if notice.get("retryable") is False:
        code = str(notice.get("code", "REFUSED"))
        message = str(notice.get("message", "The service ended the connection."))
        status = CODES[code].http if code in CODES else 400
        raise Refused(code, message, status=status, retryable=False)
