"""Log lines are written by a thread, and what its reader does not take is counted."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest

from telecast.logs.writer import LineWriter


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_lines_are_written_in_order(pipe: tuple[int, int]) -> None:
    reads, writes = pipe
    writer = LineWriter(writes, str)
    for n in range(3):
        writer.put(f"line {n}")
    assert writer.flush(10)
    assert os.read(reads, 100) == b"line 0\nline 1\nline 2\n"
    writer.close(10)


def test_what_a_stopped_reader_leaves_no_room_for_is_counted_and_said_when_it_goes_on(
    pipe: tuple[int, int],
) -> None:
    reads, writes = pipe
    writer = LineWriter(writes, lambda count: f"dropped {count}", most_lines=10)
    line = "x" * 9_999
    for _ in range(40):  # the pipe takes some six, ten wait, and a few are on their way
        writer.put(line)
    assert not writer.flush(0)
    assert writer.dropped >= 40 - 10 - 14
    got, written, reported = b"", 0, 0
    while written + reported < 40:  # once behind the last line, or between two as well
        got += os.read(reads, 65_536)
        written = got.count(b"x\n")
        reported = sum(map(int, re.findall(rb"dropped (\d+)\n", got)))
    assert (written, reported) == (40 - writer.dropped, writer.dropped)
    assert writer.flush(10)
    writer.put("after")
    assert writer.flush(10)
    assert os.read(reads, 100) == b"after\n"
    writer.close(10)


def test_lines_are_bounded_in_bytes_too(pipe: tuple[int, int]) -> None:
    writer = LineWriter(pipe[1], str, most_bytes=1_000)
    writer.put("x" * 1_000)
    assert writer.dropped == 1
    assert writer.flush(10), "what was dropped is reported without waiting for a next line"
    writer.close(10)
    assert os.read(pipe[0], 100) == b"1\n"


def test_a_reader_that_is_gone_ends_nothing() -> None:
    reads, writes = os.pipe()
    os.close(reads)
    writer = LineWriter(writes, str)
    writer.put("for nobody")
    assert writer.flush(10)
    assert writer.dropped == 1
    writer.close(10)
    os.close(writes)


def test_after_its_end_it_takes_no_more(pipe: tuple[int, int]) -> None:
    writer = LineWriter(pipe[1], str)
    writer.close(10)
    writer.put("late")
    assert writer.dropped == 1
