"""Batches that become durable together: how they are numbered where numbers may jump."""

from __future__ import annotations

from telecast.journal.base import Batch, Idempotency
from telecast.journal.group import Group
from telecast.model import MAX_SEQ, Record

ROW = ("positions", "p1")


def record(key: str) -> Record:
    return Record(ROW[0], key, "upsert", False, b"{}")


def test_numbers_begin_where_the_group_is_told_and_go_on_without_a_jump_in_it() -> None:
    group = Group(head=7, timestamp=5, rows={}, known={}, first=4096)
    first = group.add(Batch(records=(record("p1"), record("p2"))))
    second = group.add(Batch(records=(record("p3"),), expect={ROW: 4096}))
    assert (first.first_seq, first.last_seq) == (4096, 4097)
    assert (second.first_seq, second.last_seq) == (4098, 4098)
    assert [entry.seq for entry in group.entries] == [4096, 4097, 4098]
    assert group.head == 4098


def test_a_batch_without_records_moves_no_number_even_where_the_next_would_jump() -> None:
    group = Group(head=7, timestamp=5, rows={}, known={}, first=4096)
    receipt = group.add(Batch(idempotency=Idempotency("k", b"d")))
    assert (receipt.first_seq, receipt.last_seq, group.head) == (0, 7, 7)


def test_the_last_number_there_is_can_be_given() -> None:
    group = Group(head=MAX_SEQ - 1, timestamp=5, rows={}, known={}, first=4096)
    assert group.add(Batch(records=(record("p1"),))).last_seq == MAX_SEQ
