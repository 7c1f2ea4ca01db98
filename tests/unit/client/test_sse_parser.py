"""The event stream parser against the standard's own cases (WHATWG HTML §9.2)."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telecast.client.connection.sse import Parser, StreamEvent, TooLong


def parse(*chunks: bytes) -> list[tuple[str, bytes, str | None]]:
    parser = Parser()
    return [(e.event, e.data, e.id) for chunk in chunks for e in parser.feed(chunk)]


def test_lines_of_data_are_joined_by_a_line_feed():
    assert parse(b"data: YHOO\ndata: +2\ndata: 10\n\n") == [("message", b"YHOO\n+2\n10", None)]


def test_a_comment_and_an_id_and_an_empty_id():
    parser = Parser()
    stream = (
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third\n\n"
    )
    first, second, third = parser.feed(stream)
    assert (first.data, first.id) == (b"first event", "1")
    assert (second.data, second.id) == (b"second event", "")
    assert (third.data, third.id) == (b" third", None)
    assert parser.last_event_id == ""


def test_empty_data_is_an_event_and_no_data_is_none():
    assert parse(b"data\n\ndata\ndata\n\nevent: x\n\ndata:") == [
        ("message", b"", None),
        ("message", b"\n", None),
    ]


def test_one_space_after_the_colon_is_not_part_of_the_value():
    assert parse(b"data:test\n\ndata: test\n\n") == [("message", b"test", None)] * 2


def test_an_event_without_its_blank_line_is_thrown_away_and_so_is_its_id():
    parser = Parser()
    (event,) = parser.feed(b"id: 7\ndata: a\n\nid: 8\ndata: b\n")
    assert event.data == b"a"
    assert parser.last_event_id == "7"


def test_an_id_alone_counts_once_its_blank_line_is_there():
    parser = Parser()
    assert parser.feed(b"id: 9\n") == []
    assert parser.last_event_id == ""
    assert parser.feed(b"\n") == []
    assert parser.last_event_id == "9"


def test_an_id_with_nul_is_ignored():
    parser = Parser()
    (event,) = parser.feed(b"id: 1\nid: 2\0\ndata: x\n\n")
    assert event.id == "1"


@pytest.mark.parametrize(
    ("line", "retry"),
    [
        (b"retry: 2500", 2500),
        (b"retry:0", 0),
        (b"retry: -1", None),
        (b"retry: 1.5", None),
        (b"retry: 12ms", None),
        (b"retry:", None),
        ("retry: ٣".encode(), None),
    ],
)
def test_retry_takes_ascii_digits_only_and_needs_no_event(line, retry):
    parser = Parser()
    assert parser.feed(line + b"\n") == []
    assert parser.retry == retry


def test_the_name_of_an_event_holds_for_that_event_only():
    assert parse(b"event: add\ndata: 1\n\ndata: 2\n\n") == [
        ("add", b"1", None),
        ("message", b"2", None),
    ]


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_each_line_end_ends_a_line(end):
    assert parse(end.join([b"event: e", b"data: 1", b"", b"data: 2", b"", b""])) == [
        ("e", b"1", None),
        ("message", b"2", None),
    ]


def test_a_crlf_cut_in_two_ends_one_line_and_the_event_comes_at_the_cr():
    parser = Parser()
    assert parser.feed(b"data: 1\r") == []
    assert parser.feed(b"\n") == []
    assert [e.data for e in parser.feed(b"\r")] == [b"1"]
    assert parser.feed(b"\ndata: 2\r\n") == []


def test_a_byte_order_mark_is_dropped_once_even_in_pieces():
    assert parse(b"\xef", b"\xbb", b"\xbfdata: 1\n\n") == [("message", b"1", None)]
    assert parse(b"data: 1\n\n\xef\xbb\xbfdata: 2\n\n") == [("message", b"1", None)]


def test_unknown_fields_and_odd_lines_are_passed_over():
    assert parse(b"foo: bar\nDATA: no\n data: no\n:\n::\ndata: yes\n\n") == [
        ("message", b"yes", None)
    ]


def test_other_line_separators_are_text():
    text = "a\x0bb\x0cc\x1dd\x85e\u2028f".encode()
    assert parse(b"data: " + text + b"\n\n") == [("message", text, None)]


def test_a_line_and_an_event_have_their_bounds():
    with pytest.raises(TooLong, match="line"):
        Parser(max_line=10).feed(b"data: 12345\n")
    endless = Parser(max_line=10)
    endless.feed(b"data: 1234")
    with pytest.raises(TooLong, match="line"):
        endless.feed(b"5")
    with pytest.raises(TooLong, match="event"):
        Parser(max_event=10).feed(b"data: 12345\ndata: 12345\n")


ends = st.sampled_from([b"\n", b"\r", b"\r\n"])
lines = st.sampled_from(
    [b"", b"data: x", b"data:", b"data", b"id: 5", b"id", b"event: e", b":c", b"retry: 9", b"q"]
)
streams = st.lists(st.tuples(lines, ends)).map(lambda pairs: b"".join(a + b for a, b in pairs))


@given(st.one_of(streams, st.binary(max_size=60)), st.lists(st.integers(0, 80), max_size=12))
def test_any_chunking_gives_the_same_events(stream, cuts):
    whole, pieces = Parser(), Parser()
    reported: list[StreamEvent] = []
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    for start, end in pairwise(places):
        reported += pieces.feed(stream[start:end])
    assert reported == whole.feed(stream)
    assert (pieces.last_event_id, pieces.retry) == (whole.last_event_id, whole.retry)
