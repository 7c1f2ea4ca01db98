"""What comes in at the WebSocket transport: frames, judged by RFC 6455 and by our limits. Pure.

A frame is judged as soon as its head is there, so a size that was only announced costs nothing,
and nothing is kept but bytes that were received: at most one message and what came behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from telecast.errors import Code, PeerFault

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
_DATA = frozenset({CONTINUATION, TEXT, BINARY})
_CONTROL = frozenset({CLOSE, PING, PONG})

MAX_FRAGMENTS = 256
"""Frames of one message. Each costs as much as a message does: who sends thousands of them to
make one means no message but our time. 64 KiB in 256 bytes each are still taken."""
MAX_CONTROL = 125
"""Bytes in a control frame (RFC 6455 §5.5)."""

Reason = Literal[
    "unmasked",
    "reserved",
    "control",
    "sequence",
    "close",
    "utf8",
    "size",
    "fragments",
    "binary",
    "control_rate",
]
REASONS: Mapping[Reason, tuple[Code, int]] = {
    "unmasked": (Code.BAD_REQUEST, 1002),
    "reserved": (Code.BAD_REQUEST, 1002),
    "control": (Code.BAD_REQUEST, 1002),
    "sequence": (Code.BAD_REQUEST, 1002),
    "close": (Code.BAD_REQUEST, 1002),
    "utf8": (Code.BAD_REQUEST, 1007),
    "size": (Code.BODY_TOO_LARGE, 1009),
    "fragments": (Code.BODY_TOO_LARGE, 1009),
    "binary": (Code.BAD_REQUEST, 1003),
    "control_rate": (Code.TOO_MANY_ACTIONS, 4429),
}
"""Why a frame ends its connection: the error code and the close code (RFC 6455 §7.4.1)."""


class FrameFault(PeerFault):
    """The connection can't go on after this frame; it is to be closed with `close`."""

    def __init__(self, reason: Reason, message: str) -> None:
        code, self.close = REASONS[reason]
        super().__init__(code, message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Frame:
    """A control frame, or a whole message that is no text."""

    opcode: int
    payload: bytes


class Frames:
    """The incoming half of one connection: bytes in, whole messages out."""

    __slots__ = ("_buffer", "_fragments", "_limit", "_need", "_opcode", "_partial")

    def __init__(self, max_message: int) -> None:
        """`max_message` is in bytes, over all frames of a message."""
        self._limit = max_message
        self._buffer = bytearray()
        self._need = 2
        """Bytes that the buffer must have before more can be said about the next frame."""
        self._opcode = CONTINUATION
        """What the message that is being put together is; CONTINUATION: there is none."""
        self._partial = b""
        self._fragments = 0

    def __len__(self) -> int:
        """Bytes that wait to be taken."""
        return len(self._buffer)

    def feed(self, data: bytes) -> bool:
        """Take bytes in; whether there are enough for `take` to get any further."""
        self._buffer += data
        return len(self._buffer) >= self._need

    def take(self) -> str | Frame | None:
        """The next text message, or else frame; None when it is not all there yet.

        Raises FrameFault, and then this is over: the bytes that follow mean nothing.
        """
        buffer = self._buffer
        while len(buffer) >= self._need:
            first, size = buffer[0], buffer[1] & 0x7F
            self._judge(first, buffer[1], size)
            start = 6
            if size > 125:
                start = 8 if size == 126 else 14
                if len(buffer) < start - 4:
                    self._need = start - 4
                    break
                size = int.from_bytes(buffer[2 : start - 4], "big")
            if size + len(self._partial) > self._limit and not first & 0x08:
                raise FrameFault("size", f"A message has at most {self._limit} bytes.")
            end = start + size
            if len(buffer) < end:
                self._need = end
                break
            payload = _unmask(buffer[start:end], buffer[start - 4 : start])
            del buffer[:end]
            self._need = 2
            taken = self._assemble(first & 0x0F, payload, final=first > 0x7F)
            if taken is not None:
                return taken
        return None

    def _judge(self, first: int, second: int, size: int) -> None:
        """Hold a frame's first two bytes against RFC 6455 §5.2, §5.4 and §5.5."""
        if first == 0x81 and second > 0x7F and not self._opcode:
            return  # what nearly all are: a whole text, masked, and nothing is unfinished
        opcode = first & 0x0F
        if first & 0x70:
            raise FrameFault("reserved", "No extension was agreed on: reserved bits must be 0.")
        if second < 0x80:
            raise FrameFault("unmasked", "A client must mask its frames.")
        if opcode in _CONTROL:
            if first < 0x80 or size > MAX_CONTROL:
                raise FrameFault(
                    "control", f"A control frame is in one piece, of {MAX_CONTROL} bytes at most."
                )
        elif opcode not in _DATA:
            raise FrameFault("reserved", f"There is no opcode {opcode}.")
        elif (opcode == CONTINUATION) != (self._opcode != CONTINUATION):
            raise FrameFault("sequence", "A message goes on until its final frame, and no further.")

    def _assemble(self, opcode: int, payload: bytes, *, final: bool) -> str | Frame | None:
        """What this frame completes."""
        if opcode in _CONTROL:
            if opcode == CLOSE:
                _judge_close(payload)
            return Frame(opcode, payload)
        if opcode == CONTINUATION:
            self._fragments += 1
            if self._fragments > MAX_FRAGMENTS:
                raise FrameFault("fragments", f"A message has at most {MAX_FRAGMENTS} frames.")
            payload = self._partial + payload
            opcode = self._opcode
        if not final:
            if self._opcode == CONTINUATION:
                self._opcode, self._fragments = opcode, 1
            self._partial = payload
            return None
        self._opcode, self._partial = CONTINUATION, b""
        return _text(payload) if opcode == TEXT else Frame(opcode, payload)


def _unmask(payload: bytearray, mask: bytearray) -> bytes:
    """RFC 6455 §5.3, as one operation on large numbers."""
    size = len(payload)
    keys = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(keys, "big")).to_bytes(size, "big")


def _text(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise FrameFault("utf8", "Text is UTF-8.") from None


def _judge_close(payload: bytes) -> None:
    """A close frame has nothing, or a code that may be sent, and UTF-8 (RFC 6455 §7.4)."""
    if not payload:
        return
    code = int.from_bytes(payload[:2], "big")  # of half a code: under 256, and so not sendable
    # 1004 is reserved; 1005, 1006 and 1015 say what was seen and are never sent (§7.4.1).
    sendable = 1000 <= code <= 1014 and code not in (1004, 1005, 1006)
    if not (sendable or 3000 <= code <= 4999):
        raise FrameFault("close", "A close frame begins with a close code that may be sent.")
    _text(payload[2:])
