"""Chunks of the tape, encoded for a transport once and shared by all who are sent the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from telecast.model import Event
from telecast.protocol import messages
from telecast.protocol.framing import Transport
from telecast.tape.channel_log import Standing
from telecast.tape.selection import Selection
from telecast.tape.tape import Tape

MEMO_ENTRIES = 64


def leaves(event: Event, staying: Selection | None) -> bool:
    """Whether only the key of an event is sent; a tombstone says by itself that its row is gone."""
    return staying is not None and event.op != "delete" and not staying.wants(event)


@dataclass(frozen=True, slots=True)
class Encoded:
    """A chunk as one block: everything up to `upto` in `count` events; others were left out."""

    block: bytes
    upto: int
    count: int
    conflated: int


class Chunks:
    """Owns the memo. An entry is of one head: after the next commit nobody asks for it."""

    def __init__(self, tape: Tape, epoch: str, *, now: Callable[[], int]) -> None:
        """`now` gives ms since 1970."""
        self._tape = tape
        self._epoch = epoch
        self._now = now
        self._memo: dict[object, Encoded] = {}
        self.encoded = 0
        """Chunks that were encoded and not shared: what a storm of resumes costs."""

    def rows(
        self, selection: Selection, transport: Transport, after: int, *, upto: int, most_bytes: int
    ) -> Encoded:
        """Rows of a snapshot, as `Tape.rows` gives them."""

        def encode() -> Encoded:
            chunk = self._tape.rows(selection, after, upto=upto, most_bytes=most_bytes)
            rows = [transport.row(event) for event in chunk.events]
            return Encoded(b"".join(rows), chunk.upto, len(rows), 0)

        return self._shared(("rows", selection, transport, after, upto, self._tape.head), encode)

    def since(
        self,
        selection: Selection,
        transport: Transport,
        after: int,
        *,
        conflate: bool,
        most_bytes: int,
        starts: Mapping[str, int],
        staying: Selection | None = None,
    ) -> Encoded:
        """Events after a position, as `Tape.read` gives them, and the word on what is left out.

        Of what `staying` does not want only the key is sent: its row leaves.
        """

        tape = self._tape

        def encode() -> Encoded:
            chunk = tape.read(
                selection, after, conflate=conflate, most_bytes=most_bytes, starts=starts
            )
            blocks = [self.block(event, transport, staying) for event in chunk.events]
            sent = len(blocks) - sum(leaves(event, staying) for event in chunk.events)
            trimmed = conflate and any(
                tape.standing(name, max(after, starts.get(name, 0))) is not Standing.EXACT
                for name in selection.channels
            )
            if chunk.conflated or trimmed:
                count = None if trimmed else chunk.conflated
                message = messages.conflated(self._now(), after + 1, chunk.upto, count)
                blocks.insert(0, transport.message(message))
            return Encoded(b"".join(blocks), chunk.upto, sent, chunk.conflated)

        if starts or staying is not None:
            return encode()
        return self._shared(("since", selection, transport, after, conflate, tape.head), encode)

    def block(self, event: Event, transport: Transport, staying: Selection | None) -> bytes:
        """An event, or the word that its row leaves."""
        if leaves(event, staying):
            return transport.message(messages.leave(self._now(), event.channel, [event.key]))
        return transport.event(event, self._epoch)

    def _shared(self, key: object, encode: Callable[[], Encoded]) -> Encoded:
        chunk = self._memo.get(key)
        if chunk is None:
            self.encoded += 1
            chunk = encode()
            if len(self._memo) >= MEMO_ENTRIES:
                del self._memo[next(iter(self._memo))]
            self._memo[key] = chunk
        return chunk
