"""Encoded chunks: whoever is served from the memo gets what an encoding of its own would be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import pytest

from telecast.channels.catalogue import CHANNELS
from telecast.protocol.framing import TRANSPORTS, WS
from telecast.tape import chunks as chunks_module
from telecast.tape.chunks import Chunks, Encoded
from telecast.tape.selection import Selection
from telecast.tape.tape import Tape
from tests.support.fakes import EPOCH, Change, Ledger, commit

MARKET = Selection({"market-data": ()})
ONE = Selection({"market-data": (("symbol", frozenset({"S0"})),)})
CHANGES = [Change(3, key, 0, 0, 1, 1) for key in (0, 1, 2, 0, 1, 0)]


def chunks_of(tape: Tape) -> Chunks:
    return Chunks(tape, EPOCH, now=lambda: 0)


def reported(tape: Tape, changes: list[Change], ledger: Ledger) -> None:
    for entry in commit(ledger, changes):
        tape.apply(tape.event(entry))


def asks(head: int) -> Iterator[Callable[[Chunks], Encoded]]:
    """Everything that may be asked about a short past."""
    for selection, transport, after in product((MARKET, ONE), TRANSPORTS, range(head)):
        for upto in range(after + 1, head + 1):
            yield lambda chunks, s=selection, d=transport, a=after, u=upto: chunks.rows(
                s, d, a, upto=u, most_bytes=300
            )
        for conflate, starts in product((True, False), ({}, {"market-data": head - 1})):
            yield (
                lambda chunks, s=selection, d=transport, a=after, c=conflate, st=starts: (
                    chunks.since(s, d, a, conflate=c, most_bytes=300, starts=st)
                )
            )


def test_what_is_shared_is_what_each_would_be_sent_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks_module, "MEMO_ENTRIES", 10_000)
    ledger, tape = Ledger(), Tape(CHANNELS)
    shared = chunks_of(tape)
    reported(tape, CHANGES, ledger)
    head = tape.head
    for _ in range(2):
        for ask in asks(head):
            assert ask(shared) == ask(chunks_of(tape))
        reported(tape, CHANGES[:1], ledger)


def test_the_memo_holds_so_many_chunks_and_no_more() -> None:
    tape = Tape(CHANNELS)
    reported(tape, CHANGES[:1] * 300, Ledger())
    chunks = chunks_of(tape)
    for after in range(300):
        for _ in range(2):
            chunks.since(MARKET, WS, after, conflate=False, most_bytes=1, starts={})
    assert chunks.encoded == 300, "each once"
    assert len(chunks._memo) == chunks_module.MEMO_ENTRIES
