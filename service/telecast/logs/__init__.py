"""How the service speaks to its operator: JSON lines for machines, readable ones on a terminal.

What passes through here never carries a key, and no value in it can forge a line: whatever stood
in a header, a payload or an exception.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import logging
import re
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO

from pythonjsonlogger.core import RESERVED_ATTRS, LogData
from pythonjsonlogger.orjson import OrjsonFormatter

from telecast.errors import KEY, REDACTED
from telecast.logs.writer import LineWriter

connection_id: ContextVar[str | None] = ContextVar("connection_id", default=None)
"""The connection that is being served; set once by the handler, copied onto each record."""

correlation_id: ContextVar[str | None] = ContextVar("correlation_id", default=None)
"""The X-Correlation-ID of the request that is being served."""

FLUSH_SECONDS = 1.0
"""How long the end of the process waits for a reader that has stopped."""
MAX_TEXT = 8_192
"""Characters of one value that are logged: an exception may quote a whole payload."""

_SECRET_FIELDS = frozenset(
    {"ticket", "key", "token", "secret", "password", "api_key", "apikey", "x_api_key"}
    | {"authorization", "cookie", "set_cookie"}
)
_SECRETS = (
    # Our own keys, wherever they stand.
    (KEY, REDACTED),
    # Our own tickets and cookies: what is signed, when, and the signature.
    (re.compile(r"(?<![\w-])[\w-]{40,}\.[\w-]{6}\.[\w-]{43}(?![\w-])", re.ASCII), REDACTED),
    # ?ticket=...&token=... in an address or a form.
    (
        re.compile(r"(?i)(?<![\w-])((?:ticket|key|token|api_key|apikey)=)[^\s&#;,'\"\\\])]+"),
        rf"\1{REDACTED}",
    ),
    # The same in JSON or in a dict that was printed.
    (
        re.compile(r"(?i)(['\"](?:ticket|token|secret|password)['\"]\s*:\s*b?['\"])[^'\"]+"),
        rf"\1{REDACTED}",
    ),
    # Headers, as they are sent (`Cookie: a=b; c=d`) or printed (`(b'Cookie', b'a=b')`).
    (
        re.compile(
            r"(?i)((?:cookie|authorization|x-api-key)(?:\s*[:=]\s*|['\"]\s*[:,]\s*))"
            r"(?:b?(['\"])(?:\\.|(?!\2).)*|[^\r\n]+)"
        ),
        rf"\1{REDACTED}",
    ),
    (re.compile(r"(?i)\b(bearer\s+)[\w.~+/=-]{8,}"), rf"\1{REDACTED}"),
)
# All that a terminal or a line-based reader takes for more than a character: C0, DEL, C1, the line
# and paragraph separators, the marks that turn the direction of what is read, and lone surrogates,
# which UTF-8 can't hold.
_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_CONTEXT = ("connection_id", "correlation_id")
_OWN = frozenset(RESERVED_ATTRS) | {"taskName", *_CONTEXT}
_TOLD = frozenset({"ts", "level", "logger", "event"})
_DEPTH, _ITEMS = 5, 100
"""How deep and how many of a structure given as an extra are logged."""


def configure(
    format: str,
    level: str,
    stream: TextIO | None = None,
    *,
    worker: int | None = None,
) -> logging.Handler:
    """Send all that is logged to `stream` (stderr unless given); an earlier call's no more.

    `format` is json, text, or auto: text where the stream is a terminal. `level` is a word of the
    log_level setting. Each line has `worker`, if it is given. Returns the handler.
    """
    out = sys.stderr if stream is None else stream
    handler = _Handler(out)
    text = format == "text" or (format == "auto" and out.isatty())
    handler.setFormatter(TextFormatter() if text else JsonFormatter())
    handler.addFilter(ContextFilter())
    if worker is not None:
        handler.addFilter(WorkerFilter(worker))
    handler.addFilter(RedactingFilter())
    root = logging.getLogger()
    for old in [each for each in root.handlers if isinstance(each, _Handler)]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(level.upper())
    return handler


def redact(text: str) -> str:
    """The text without what looks like a key, a ticket, a token or a cookie."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


def one_line(text: str) -> str:
    """The text with control characters written out (`\\n`), so that it can't forge another line."""
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)


class ContextFilter(logging.Filter):
    """Copies the ids of what is being served onto the record, unless it names its own."""

    def filter(self, record: logging.LogRecord) -> bool:
        for name, variable in (
            ("connection_id", connection_id),
            ("correlation_id", correlation_id),
        ):
            if getattr(record, name, None) is None:
                setattr(record, name, variable.get())
        return True


class WorkerFilter(logging.Filter):
    """Says which of several processes a line is from."""

    def __init__(self, worker: int) -> None:
        super().__init__()
        self._worker = worker

    def filter(self, record: logging.LogRecord) -> bool:
        record.worker = self._worker
        return True


class RedactingFilter(logging.Filter):
    """Takes secrets out of everything that a formatter may show.

    It makes the texts itself, the exception's too: only a finished text can be searched.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            message = record.getMessage()
        except Exception as error:  # a wrong call of the logger must not end a request
            message = f"{record.msg} (its arguments don't fit: {error})"
        record.msg, record.args = _clean(redact(message)), ()
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = _cut(redact(record.exc_text))
        record.exc_info = None
        if record.stack_info:
            record.stack_info = _cut(redact(record.stack_info))
        for name, value in list(vars(record).items()):
            if name in _TOLD:  # an extra must not stand in for what every line tells
                delattr(record, name)
                name += "_"
            if name not in _OWN:
                setattr(record, name, _without_secrets(name, value, _DEPTH))
        for name in _CONTEXT:
            if (value := getattr(record, name, None)) is not None:
                setattr(record, name, _clean(redact(str(value))))
        return True


class _Handler(logging.StreamHandler[TextIO]):
    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._writer: LineWriter | None = None
        with contextlib.suppress(OSError, ValueError):  # a stream of no file is written at once
            self._writer = LineWriter(stream.fileno(), self._about_dropped)

    @property
    def dropped(self) -> int:
        return 0 if self._writer is None else self._writer.dropped

    def handle(self, record: logging.LogRecord) -> bool:
        # The filters write into the record; other handlers must get it as it was.
        try:
            return super().handle(copy.copy(record))
        except Exception:  # a value that can't be made a text must not end a request
            self.handleError(record)
            return False

    def emit(self, record: logging.LogRecord) -> None:
        if self._writer is None:
            super().emit(record)
            return
        try:
            self._writer.put(self.format(record))
        except Exception:
            self.handleError(record)

    def pass_on(self, line: str) -> None:
        if self._writer is None:
            self.stream.write(line + "\n")
        else:
            self._writer.put(line)

    def handleError(self, record: logging.LogRecord) -> None:
        # logging's own prints the record's arguments as they are, secrets and all.
        kind = getattr(sys.exc_info()[0], "__name__", "an error")
        text = f"telecast.logs: a record was lost to {kind}"
        with contextlib.suppress(Exception):
            if self._writer is None:
                self.stream.write(text + "\n")
            else:
                self._writer.put(text)

    def flush(self) -> None:
        if self._writer is None:
            super().flush()
        else:
            self._writer.flush(FLUSH_SECONDS)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close(FLUSH_SECONDS)
        super().close()

    def _about_dropped(self, count: int) -> str:
        fields = {"levelno": logging.WARNING, "levelname": "WARNING", "count": count}
        record = logging.makeLogRecord(
            {"name": __name__, "msg": "log lines dropped: their reader had stopped", **fields}
        )
        return self.format(record)


def dropped() -> int:
    """Log lines that were dropped because their reader had stopped."""
    return sum(each.dropped for each in logging.getLogger().handlers if isinstance(each, _Handler))


def pass_on(line: str) -> None:
    """Write a line that another process has made: whole, and among ours."""
    for each in logging.getLogger().handlers:
        if isinstance(each, _Handler):
            each.pass_on(line)


def flush() -> None:
    """Write what waits, for a bounded time: before the process ends by itself."""
    for each in logging.getLogger().handlers:
        each.flush()


class JsonFormatter(OrjsonFormatter):
    """One JSON object a line: ts, level, logger, event, the ids, then the extras."""

    def __init__(self) -> None:
        super().__init__(
            ["levelname", "name", "message", *_CONTEXT],
            rename_fields={"levelname": "level", "name": "logger", "message": "event"},
        )

    def add_fields(
        self, log_data: LogData, record: logging.LogRecord, message_dict: dict[str, Any]
    ) -> None:
        log_data["ts"] = _rfc3339(record.created)
        super().add_fields(log_data, record, message_dict)
        for name in ("exc_info", "stack_info"):
            if text := log_data.get(name):
                log_data[name] = [one_line(line) for line in text.split("\n")]

    def process_log_record(self, log_data: LogData) -> LogData:
        return {
            name: value
            for name, value in log_data.items()
            if value is not None or name not in _CONTEXT
        }


class TextFormatter(logging.Formatter):
    """For people: local time, level, event, then `name=value` for the ids and extras.

    A traceback follows on lines of its own, each behind a bar: readable, and no forged record.
    """

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S.%f")[:-3]
        extras = {name: getattr(record, name, None) for name in _CONTEXT}
        extras |= {name: value for name, value in vars(record).items() if name not in _OWN}
        parts = [f"{time} {record.levelname:<7} {record.getMessage()}"]
        parts += [f"{name}={value}" for name, value in extras.items() if value is not None]
        lines = ["  ".join([*parts, f"({record.name})"])]
        for text in (record.exc_text, record.stack_info):
            lines += [f"    | {line}" for line in text.split("\n")] if text else []
        return "\n".join(map(one_line, lines))


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}... ({len(text)} characters)"


def _clean(text: str) -> str:
    return one_line(_cut(text))


def _without_secrets(name: str, value: object, depth: int) -> object:
    """An extra as JSON can hold it; what is no plain value becomes its text."""
    if name.lower().replace("-", "_") in _SECRET_FIELDS:
        return REDACTED
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int) and abs(value) < 2**63:  # orjson takes no larger ones
        return int(value)
    if isinstance(value, Mapping) and depth:
        return {
            _clean(redact(str(key))): _without_secrets(str(key), each, depth - 1)
            for key, each in itertools.islice(value.items(), _ITEMS)
        }
    if isinstance(value, list | tuple | set | frozenset) and depth:
        return [_without_secrets("", each, depth - 1) for each in itertools.islice(value, _ITEMS)]
    return _clean(redact(str(value)))
