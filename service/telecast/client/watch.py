"""Whether the service keeps its promises: order, no repeats, no loss. Pure; contract section 3."""

from __future__ import annotations

from typing import Any

from telecast.client.messages import ServerMessage


class Watch:
    """Sees every message of one stream, over all its connections, and says what is amiss."""

    def __init__(self, *, delivery: str = "conflated", resumed: bool = False) -> None:
        """`resumed`: the stream began at a position, so that no snapshot was asked for."""
        self._whole = delivery == "all"
        self._resumed = resumed
        self._last = -1
        self._last_row = -1

    def see(self, message: ServerMessage) -> str | None:
        """The broken promise in a sentence, None while all is well."""
        body = message.body
        amiss: str | None = None
        match message.type:
            case "event":
                amiss = self._order(message, body)
            case "snapshot":
                self._last_row = -1
                amiss = self._reset(body)
            case "gap":
                amiss = (
                    f"gap: {body.get('channel')} lost {body.get('fromSeq')} to {body.get('toSeq')}"
                )
            case "conflated" if self._whole:
                amiss = (
                    f"conflated: {body.get('fromSeq')} to {body.get('toSeq')}, "
                    "although delivery=all was asked for"
                )
            case _:
                pass
        if message.position is not None:
            self._resumed = True
        return amiss

    def _reset(self, body: dict[str, Any]) -> str | None:
        reason = body.get("reason")
        if reason != "NEW":
            return f"reset: the service started over with a snapshot ({reason})"
        if self._resumed:
            return "reset: a snapshot came although the stream was to be resumed"
        return None

    def _order(self, message: ServerMessage, body: dict[str, Any]) -> str | None:
        seq = body.get("seq")
        if not isinstance(seq, int):
            return f"seq: an event without one: {message.raw[:80]!r}"
        last = self._last_row if message.is_row else self._last
        if message.is_row:
            self._last_row = max(seq, last)
        else:
            self._last = max(seq, last)
        if seq == last:
            return f"seq: {seq} came twice"
        if seq < last:
            return f"seq: {seq} came after {last}"
        return None
