"""A WebSocket, from the handshake to the end of the connection (RFC 6455 §4.2, §7).

Theory of operation. Bytes arrive in callbacks and become frames; frames become messages, which the
receiver gets one at a time. Three things must hold, at every moment:

- One client never holds up the others: after AT_ONCE messages or SLICE seconds the rest WAITs for
  the next turn of the loop. test_ws_frames.py floods a connection and watches another.
- What waits is bounded: beyond UNREAD bytes the wire is PAUSED, and TCP slows the peer down. While
  the wire is full nothing is handed out, since an answer would have no room.
- A close is said before it is done: our close frame goes out once, and nothing behind it. The peer
  has FAREWELL_SECONDS to answer. A peer whose frames are broken is read, and DISCARDed, meanwhile:
  to close a socket with unread bytes resets it, and the close frame would be lost.

aiohttp's WebSocketResponse is not used: it takes unmasked frames, versions 7 and 8, close codes
that may not be sent and any number of fragments, and offers no place to be stricter.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import logging
import time
from collections.abc import Mapping
from contextvars import copy_context
from enum import Enum
from typing import Protocol

from aiohttp import HttpVersion11, web

from telecast.errors import Code, PeerFault
from telecast.net.wire import Wire
from telecast.protocol.frames import CLOSE, Frame, FrameFault, Frames
from telecast.protocol.framing import ws_close
from telecast.turns import SLICE

log = logging.getLogger(__name__)

FAREWELL_SECONDS = 2.0
"""How long the peer has to answer our close frame, and to take what came before it."""
ANSWER_SECONDS = 0.5
"""How long our side stays open when the peer's frames can't be read any more."""
UNREAD = 64 * 1024
"""Bytes received and not yet acted upon at which no more is read from the socket."""

AT_ONCE = 16
"""Messages of one connection after which all others have a turn, as after SLICE: a client that
sends thousands in one go must not hold up the rest, nor one whose messages are large."""
MAX_REASON = 123
"""Bytes: a control frame has 125, of which the code takes two."""

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def check_version(request: web.Request) -> None:
    """Raises PeerFault UPGRADE_REQUIRED, whose answer names ours (RFC 6455 §4.4)."""
    if request.headers.getall("Sec-WebSocket-Version", ["13"]) != ["13"]:
        raise PeerFault(
            Code.UPGRADE_REQUIRED, "Only version 13 of the WebSocket protocol is spoken."
        )


def has_body(request: web.Request) -> bool:
    """Whether more follows the head: a proxy may take it for a body and us for frames, or not."""
    return (
        "Transfer-Encoding" in request.headers or request.headers.get("Content-Length", "0") != "0"
    )


def upgrade(request: web.Request, subprotocol: str) -> web.StreamResponse:
    """The answer that makes a request a WebSocket; not sent yet. Raises PeerFault."""
    headers = request.headers
    if (
        request.method != "GET"
        or request.version < HttpVersion11
        or "websocket" not in _tokens(request, "Upgrade")
        or "upgrade" not in _tokens(request, "Connection")
        or "Sec-WebSocket-Version" not in headers
    ):
        raise PeerFault(Code.BAD_REQUEST, "Connect with a WebSocket upgrade here (RFC 6455).")
    keys = headers.getall("Sec-WebSocket-Key", [])
    if len(keys) != 1 or not _is_nonce(keys[0]):
        raise PeerFault(
            Code.BAD_REQUEST, "Sec-WebSocket-Key must be 16 bytes in base64 (RFC 6455)."
        )
    digest = hashlib.sha1(keys[0].encode() + _GUID, usedforsecurity=False).digest()
    response = web.StreamResponse(
        status=101,
        headers={
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Accept": base64.b64encode(digest).decode(),
        },
    )
    offered = ",".join(headers.getall("Sec-WebSocket-Protocol", [])).split(",")
    if subprotocol in (each.strip() for each in offered):
        response.headers["Sec-WebSocket-Protocol"] = subprotocol
    response.force_close()
    return response


def _tokens(request: web.Request, name: str) -> list[str]:
    values = request.headers.getall(name, [])
    return [each.strip().lower() for value in values for each in value.split(",")]


def _is_nonce(key: str) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False


class Receiver(Protocol):
    """Who gets what the peer sends."""

    def receive(self, message: str | Frame) -> None:
        """A text message, or a frame that is neither text nor close. May raise FrameFault."""
        ...

    def refuse(self, fault: FrameFault) -> None:
        """The connection can't go on: `close` it. What still comes is thrown away."""
        ...

    def over(self) -> None:
        """Nothing is received any more, and nothing more need be sent; called once."""
        ...


class Reading(Enum):
    """What becomes of the bytes that the peer sends."""

    FLOWING = "messages are handed out as they arrive"
    WAITING = "messages wait: for room to answer, or for the other connections' turn"
    PAUSED = "so many bytes wait that nothing more is read from the wire"
    DISCARDING = "the bytes can't be read as frames, and are thrown away"
    OVER = "nothing is received any more"


MOVES: Mapping[Reading, frozenset[Reading]] = {
    Reading.FLOWING: frozenset({Reading.WAITING, Reading.DISCARDING, Reading.OVER}),
    Reading.WAITING: frozenset({Reading.FLOWING, Reading.PAUSED, Reading.DISCARDING, Reading.OVER}),
    Reading.PAUSED: frozenset({Reading.FLOWING, Reading.DISCARDING, Reading.OVER}),
    Reading.DISCARDING: frozenset({Reading.OVER}),
    Reading.OVER: frozenset(),
}


class WebSocket:
    """What the peer of an upgraded connection sends, one message at a time, and how it ends.

    The receiver sends through the wire; only close frames are sent from here. While the wire is
    full, one message is handed out and no more: there is no room for replies.
    """

    __slots__ = (
        "_context",
        "_farewell",
        "_finishing",
        "_frames",
        "_reading",
        "_receiver",
        "_wire",
    )

    def __init__(self, wire: Wire, max_message: int, receiver: Receiver) -> None:
        """`max_message` is in bytes."""
        self._wire = wire
        self._receiver: Receiver | None = receiver
        self._frames: Frames | None = Frames(max_message)
        self._reading = Reading.FLOWING
        self._farewell: asyncio.TimerHandle | None = None
        """Runs once our close frame is out."""
        self._finishing: asyncio.TimerHandle | None = None
        """Runs while DISCARDING."""
        self._context = copy_context()

    def move(self, reading: Reading) -> None:
        """The only way in which this changes, and with it what is kept and read."""
        before = self._reading
        if reading not in MOVES[before]:
            raise AssertionError(f"no way from {before.name} to {reading.name}")
        self._reading = reading
        if reading in (Reading.DISCARDING, Reading.OVER):
            self._frames = None
        if reading is Reading.PAUSED:
            self._wire.pause()
        elif before is Reading.PAUSED and reading is not Reading.OVER:
            self._wire.resume()

    def open(self, behind: bytes) -> None:
        """Take what arrives from now on, and what already arrived behind the request."""
        self._wire.listen(self._take_in, self.stop)
        self._take_in(behind)

    @property
    def closing(self) -> bool:
        """Whether our close frame is out: nothing is sent behind it (RFC 6455 §5.5.1)."""
        return self._farewell is not None

    def close(self, code: int, reason: str) -> None:
        """Send our close frame, once. The peer has FAREWELL_SECONDS, then it is over."""
        if not self.closing:
            self._close(code.to_bytes(2, "big") + _shortened(reason))

    def stop(self) -> None:
        """Nothing is received any more. Harmless when that is so already."""
        if self._reading is Reading.OVER:
            return
        self.move(Reading.OVER)
        receiver, self._receiver = self._receiver, None
        if self._finishing is not None:
            self._finishing.cancel()
        if receiver is not None:
            receiver.over()
        if self._farewell is not None and not self._wire.buffered():
            self._farewell.cancel()

    def _take_in(self, data: bytes) -> None:
        frames = self._frames
        if frames is None or not frames.feed(data):
            return
        if self._reading is Reading.FLOWING:
            self._hand_out()
        if self._reading is Reading.WAITING and len(frames) > UNREAD:
            self.move(Reading.PAUSED)

    def _hand_out(self) -> None:
        """All that has arrived, unless that would hold up others, or the replies did not fit."""
        if self._frames is None:
            return
        try:
            more = self._receive_some(self._frames)
        except FrameFault as fault:
            self._give_up_reading(fault)
            return
        except Exception:
            log.exception("unhandled")
            self._wire.abort()
            more = False
        if self._reading is Reading.OVER:
            return
        if more and self._reading is Reading.FLOWING:
            self.move(Reading.WAITING)
        elif not more and self._reading is not Reading.FLOWING:
            self.move(Reading.FLOWING)

    def _receive_some(self, frames: Frames) -> bool:
        """Whether more waits, for which this is called again. Raises FrameFault."""
        until, left = time.monotonic() + SLICE, AT_ONCE
        while self._receiver is not None:
            taken = frames.take()
            if taken is None:
                return False
            if isinstance(taken, Frame) and taken.opcode == CLOSE:
                if not self.closing:
                    self._close(taken.payload[:2])
                self.stop()
            elif not self.closing:
                self._receiver.receive(taken)
            left -= 1
            if self._wire.full and not self.closing:
                self._wire.when_drained(self._soon)
                return True
            if not left or time.monotonic() >= until:
                self._soon()
                return True
        return False

    def _soon(self) -> None:
        # Whoever calls, the log lines are those of this connection.
        asyncio.get_running_loop().call_soon(self._hand_out, context=self._context)

    def _give_up_reading(self, fault: FrameFault) -> None:
        """Throw away what still arrives until the peer hangs up, or has had its time.

        Closed at once, a connection with unread bytes is reset, and our close frame is lost with
        it. Ended at once, a proxy ends the client's too, which then can't answer our close frame
        and takes the end for an accident.
        """
        self.move(Reading.DISCARDING)
        if self._receiver is not None:
            self._receiver.refuse(fault)
        loop = asyncio.get_running_loop()
        self._finishing = loop.call_later(ANSWER_SECONDS, self._wire.finish)

    def _close(self, payload: bytes) -> None:
        self._wire.write(ws_close(payload))
        loop = asyncio.get_running_loop()
        self._farewell = loop.call_later(FAREWELL_SECONDS, self._give_up)

    def _give_up(self) -> None:
        self._wire.abort_if_stuck()
        self.stop()


def _shortened(reason: str) -> bytes:
    """What of a text fits into a close frame, whose reason is UTF-8 too (RFC 6455 §5.5.1)."""
    return reason.encode()[:MAX_REASON].decode(errors="ignore").encode()
