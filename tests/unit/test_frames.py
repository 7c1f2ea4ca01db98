"""Frames as they come in, however they are cut: by the sender into fragments, by TCP into reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telecast.protocol.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    MAX_FRAGMENTS,
    PING,
    PONG,
    REASONS,
    TEXT,
    Frame,
    FrameFault,
    Frames,
    Reason,
)
from tests.support.sockets.raw import frame

LIMIT = 1_000
SENDABLE = (1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 4999)
UNSENDABLE = (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)


def taken(frames: Frames) -> list[str | Frame]:
    found = []
    while (each := frames.take()) is not None:
        found.append(each)
    return found


def fault_of(data: bytes, limit: int = LIMIT) -> FrameFault:
    frames = Frames(limit)
    frames.feed(data)
    with pytest.raises(FrameFault) as caught:
        taken(frames)
    return caught.value


# --- what may be sent is taken

CONTROLS = st.one_of(
    st.builds(Frame, st.sampled_from((PING, PONG)), st.binary(max_size=125)),
    st.builds(lambda code: Frame(CLOSE, code.to_bytes(2, "big")), st.sampled_from(SENDABLE)),
    st.just(Frame(CLOSE, b"")),
)
MESSAGES = st.one_of(
    st.text(max_size=200), st.builds(Frame, st.just(BINARY), st.binary(max_size=400)), CONTROLS
)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[list[str | Frame], bytes]:
    """(what is to be taken, in order; the bytes of a client that says it)."""
    expected: list[str | Frame] = []
    data = b""
    for message in draw(st.lists(MESSAGES, max_size=6)):
        mask = draw(st.binary(min_size=4, max_size=4))
        if isinstance(message, Frame) and message.opcode in (PING, PONG, CLOSE):
            data += frame(message.opcode, message.payload, mask=mask)
            expected.append(message)
            continue
        opcode = TEXT if isinstance(message, str) else BINARY
        payload = message.encode() if isinstance(message, str) else message.payload
        cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=4)))
        pieces = [payload[a:b] for a, b in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
        for index, piece in enumerate(pieces):
            last = index == len(pieces) - 1
            data += frame(CONTINUATION if index else opcode, piece, final=last, mask=mask)
            if not last and draw(st.booleans()):
                between = draw(CONTROLS)
                data += frame(between.opcode, between.payload)
                expected.append(between)
        expected.append(message)
    return expected, data


@given(conversations(), st.data())
def test_however_it_is_cut_the_same_messages_are_taken(
    conversation: tuple[list[str | Frame], bytes], data: st.DataObject
) -> None:
    expected, said = conversation
    frames = Frames(LIMIT)
    found: list[str | Frame] = []
    while said:
        size = data.draw(st.integers(1, len(said)))
        enough = frames.feed(said[:size])
        before = len(found)
        found += taken(frames)
        assert enough or len(found) == before, "who waits for `feed` to say so misses nothing"
        said = said[size:]
    assert found == expected
    assert len(frames) == 0


def test_one_byte_at_a_time_is_enough() -> None:
    frames, said = Frames(100_000), "\u20ac" * 30_000
    data = frame(TEXT, said.encode()) + frame(PING, b"x") + frame(TEXT, b"")
    found = []
    for at in range(len(data)):
        if frames.feed(data[at : at + 1]):
            found += taken(frames)
    assert found == [said, Frame(PING, b"x"), ""]


def test_a_message_of_just_the_limit_is_taken_in_one_frame_or_in_many() -> None:
    frames = Frames(LIMIT)
    frames.feed(frame(TEXT, b"x" * LIMIT))
    assert taken(frames) == ["x" * LIMIT]
    frames.feed(frame(TEXT, b"x" * (LIMIT - 1), final=False) + frame(CONTINUATION, b"y"))
    assert taken(frames) == ["x" * (LIMIT - 1) + "y"]


def test_as_many_fragments_as_may_be_are_taken_of_each_message() -> None:
    frames = Frames(LIMIT)
    for _ in range(3):
        frames.feed(frame(TEXT, b"a", final=False))
        frames.feed(frame(CONTINUATION, b"b", final=False) * (MAX_FRAGMENTS - 2))
        frames.feed(frame(PING) + frame(CONTINUATION, b"c"))
        assert taken(frames) == [Frame(PING, b""), "a" + "b" * (MAX_FRAGMENTS - 2) + "c"]


@pytest.mark.parametrize("code", SENDABLE)
def test_close_codes_that_may_be_sent_are_taken(code: int) -> None:
    frames = Frames(LIMIT)
    payload = code.to_bytes(2, "big") + "d\u00e9j\u00e0".encode()
    frames.feed(frame(CLOSE, payload))
    assert taken(frames) == [Frame(CLOSE, payload)]


# --- what may not is a fault

HUGE = 2**62
BROKEN: list[tuple[str, bytes, Reason]] = [
    ("a text that is not masked", frame(TEXT, b"{}", mask=None), "unmasked"),
    ("a ping that is not masked", frame(PING, mask=None), "unmasked"),
    ("a close that is not masked", frame(CLOSE, mask=None), "unmasked"),
    (
        "a continuation that is not masked",
        frame(TEXT, b"{", final=False) + frame(CONTINUATION, b"}", mask=None),
        "unmasked",
    ),
    ("a compressed text, which was not agreed on", frame(TEXT, b"{}", reserved=0x40), "reserved"),
    ("a compressed ping", frame(PING, reserved=0x40), "reserved"),
    ("the second reserved bit", frame(TEXT, b"{}", reserved=0x20), "reserved"),
    ("the third reserved bit", frame(TEXT, b"{}", reserved=0x10), "reserved"),
    *((f"opcode {n}", frame(n), "reserved") for n in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)),
    ("a ping of 126 bytes", frame(PING, bytes(126)), "control"),
    ("a close of 126 bytes", frame(CLOSE, bytes(126)), "control"),
    ("a ping that announces 2^62 bytes", frame(PING, announced=HUGE), "control"),
    ("a ping in fragments", frame(PING, final=False), "control"),
    ("a close in fragments", frame(CLOSE, final=False), "control"),
    ("a continuation of nothing", frame(CONTINUATION, b"x"), "sequence"),
    ("a continuation of nothing that goes on", frame(CONTINUATION, final=False), "sequence"),
    (
        "a continuation of what is complete",
        frame(TEXT, b"a", final=False) + frame(CONTINUATION, b"b") + frame(CONTINUATION),
        "sequence",
    ),
    ("a text within a text", frame(TEXT, final=False) + frame(TEXT, b"x"), "sequence"),
    (
        "a text that begins within a text",
        frame(TEXT, b"x", final=False) + frame(TEXT, b"x", final=False),
        "sequence",
    ),
    *(
        (f"close code {code}", frame(CLOSE, code.to_bytes(2, "big")), "close")
        for code in UNSENDABLE
    ),
    ("half a close code", frame(CLOSE, b"\x03"), "close"),
    ("a close reason that is no UTF-8", frame(CLOSE, b"\x03\xe8\xff"), "utf8"),
    ("a text that is no UTF-8", frame(TEXT, b"\xff"), "utf8"),
    ("a surrogate", frame(TEXT, b"\xed\xa0\x80"), "utf8"),
    ("an overlong form", frame(TEXT, b"\xc0\xaf"), "utf8"),
    ("half a character", frame(TEXT, b"\xe2\x82"), "utf8"),
    (
        "half a character in fragments",
        frame(TEXT, b"\xe2", final=False) + frame(CONTINUATION, b"\x82"),
        "utf8",
    ),
    ("one byte too many", frame(TEXT, b"x" * (LIMIT + 1)), "size"),
    (
        "one byte too many in fragments",
        frame(TEXT, b"x" * LIMIT, final=False) + frame(CONTINUATION, b"x"),
        "size",
    ),
    ("2^62 bytes announced", frame(TEXT, announced=HUGE), "size"),
    ("2^64 - 1 bytes announced", frame(BINARY, announced=2**64 - 1), "size"),
    (
        "2^62 bytes announced in a fragment",
        frame(TEXT, b"x", final=False) + frame(CONTINUATION, announced=HUGE),
        "size",
    ),
    (
        "one fragment too many",
        frame(TEXT, final=False) + frame(CONTINUATION, final=False) * MAX_FRAGMENTS,
        "fragments",
    ),
    (
        "one fragment too many, which would be the last",
        frame(TEXT, final=False)
        + frame(CONTINUATION, final=False) * (MAX_FRAGMENTS - 1)
        + frame(CONTINUATION),
        "fragments",
    ),
]


@pytest.mark.parametrize(
    ("data", "reason"), [each[1:] for each in BROKEN], ids=[each[0] for each in BROKEN]
)
def test_what_may_not_be_sent_is_a_fault_with_its_reason(data: bytes, reason: Reason) -> None:
    fault = fault_of(data)
    assert fault.reason == reason
    assert (fault.code, fault.close) == REASONS[reason]


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_size_that_is_too_large_is_refused_before_a_byte_of_it_came(opcode: int) -> None:
    assert fault_of(frame(opcode, announced=HUGE)[:-4]).reason == "size"


def test_what_came_before_a_fault_is_taken() -> None:
    frames = Frames(LIMIT)
    frames.feed(frame(TEXT, b"{}") + frame(PING, b"1") + frame(TEXT, b"{}", mask=None))
    assert frames.take() == "{}"
    assert frames.take() == Frame(PING, b"1")
    with pytest.raises(FrameFault):
        frames.take()


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=20))
def test_whatever_comes_in_no_more_than_a_message_is_kept(reads: list[bytes]) -> None:
    frames = Frames(64)
    for data in reads:
        frames.feed(data)
        try:
            taken(frames)
        except FrameFault:
            return
        assert len(frames) <= 14 + max(64, 125)
