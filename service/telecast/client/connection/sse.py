"""An event stream, parsed as it comes in (WHATWG HTML §9.2.5 and §9.2.6). Pure: bytes to events."""

from __future__ import annotations

import re
from dataclasses import dataclass

BOM = b"\xef\xbb\xbf"
MAX_LINE_BYTES = 1 << 20
"""A line holds one event: 32 KiB at our own transport. More than this is no event stream of
ours."""
MAX_EVENT_BYTES = 4 << 20
"""All `data:` lines of one event together: what an endless event may hold of our memory."""

_DIGITS = re.compile(rb"[0-9]+")


class TooLong(ValueError):
    """A line or an event passes its bound: the stream can't be followed any further."""


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One dispatched event. `data` is as received; `id` is None where the event named none."""

    event: str
    data: bytes
    id: str | None


class Parser:
    """Fed with chunks, cut anywhere; gives the events that they complete.

    `last_event_id` is that of the last event that was complete, "" at first. `retry` is what
    the server last asked for, in ms, None at first; it holds from its line on. An event without
    its blank line is never handed out: what a dead connection leaves in here is to be thrown away.
    """

    def __init__(self, *, max_line: int = MAX_LINE_BYTES, max_event: int = MAX_EVENT_BYTES) -> None:
        self.last_event_id = ""
        self.retry: int | None = None
        self._max_line = max_line
        self._max_event = max_event
        self._tail = bytearray()
        self._at_start = True
        self._after_cr = False
        self._event = ""
        self._data: list[bytes] = []
        self._size = 0
        self._id: str | None = None

    def feed(self, chunk: bytes) -> list[StreamEvent]:
        """Raises TooLong, after which the parser is of no use."""
        if not chunk:
            return []
        if self._after_cr and chunk[0] == 0x0A:
            chunk = chunk[1:]  # the other half of a CRLF: its CR has ended the line already
        self._after_cr = False
        whole: list[StreamEvent] = []
        if b"\n" not in chunk and b"\r" not in chunk:
            self._tail += chunk
        else:
            # Of bytes, splitlines knows CR, LF and CRLF only.
            lines = (bytes(self._tail) + chunk).splitlines(keepends=True)
            self._tail = bytearray() if lines[-1][-1:] in b"\r\n" else bytearray(lines.pop())
            self._after_cr = not self._tail and chunk[-1:] == b"\r"
            events = (self._line(line.rstrip(b"\r\n")) for line in lines)
            whole = [event for event in events if event is not None]
        if len(self._tail) > self._max_line:
            raise TooLong(f"A line passes {self._max_line} bytes.")
        return whole

    def _line(self, line: bytes) -> StreamEvent | None:
        if len(line) > self._max_line:
            raise TooLong(f"A line passes {self._max_line} bytes.")
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(BOM)
        if not line:
            return self._dispatch()
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match name:
            case b"data":
                self._size += len(value) + 1
                if self._size > self._max_event:
                    raise TooLong(f"An event passes {self._max_event} bytes.")
                self._data.append(value)
            case b"event":
                self._event = value.decode(errors="replace")
            case b"id":
                if b"\0" not in value:
                    self._id = value.decode(errors="replace")
            case b"retry":
                if _DIGITS.fullmatch(value):
                    self.retry = int(value[:15])  # the bound keeps `int` from endless digits
            case _:
                pass  # a comment, whose name is empty, or a field of a later standard
        return None

    def _dispatch(self) -> StreamEvent | None:
        if self._id is not None:
            self.last_event_id = self._id
        event = None
        if self._data:
            event = StreamEvent(self._event or "message", b"\n".join(self._data), self._id)
        self._event, self._data, self._size, self._id = "", [], 0, None
        return event
