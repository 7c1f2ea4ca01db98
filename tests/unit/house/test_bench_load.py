"""The load of the benchmarks, in C: what it reads, how it counts, how it keeps times."""

from __future__ import annotations

import ctypes
import itertools
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import build
from telecast.protocol.framing import http_chunk, ws_close, ws_text

try:
    PARTS = ctypes.CDLL(str(build.library()))
except build.NoCompiler as fault:
    pytest.skip(str(fault), allow_module_level=True)


class Histogram(ctypes.Structure):
    _fields_ = (
        ("count", ctypes.c_uint64),
        ("max", ctypes.c_int64),
        ("buckets", ctypes.c_uint64 * (35 * 128)),
    )


class Frame(ctypes.Structure):
    _fields_ = (
        ("opcode", ctypes.c_int),
        ("fin", ctypes.c_bool),
        ("payload", ctypes.c_void_p),
        ("size", ctypes.c_size_t),
        ("whole", ctypes.c_size_t),
    )


class Head(ctypes.Structure):
    _fields_ = (
        ("status", ctypes.c_int),
        ("length", ctypes.c_long),
        ("chunked", ctypes.c_bool),
        ("size", ctypes.c_size_t),
    )


class Chunks(ctypes.Structure):
    _fields_ = (("state", ctypes.c_int), ("left", ctypes.c_size_t), ("over", ctypes.c_bool))


class Stamp(ctypes.Structure):
    _fields_ = (("id", ctypes.c_uint64), ("at", ctypes.c_int64))


class Tally(ctypes.Structure):
    _fields_ = (
        ("first", ctypes.c_uint64),
        ("room", ctypes.c_uint64),
        ("stride", ctypes.c_uint64),
        ("received", ctypes.c_uint64),
        ("duplicates", ctypes.c_uint64),
        ("out_of_order", ctypes.c_uint64),
        ("unknown", ctypes.c_uint64),
    )


class Receiver(ctypes.Structure):
    _fields_ = (
        ("remainder", ctypes.c_uint64),
        ("highest", ctypes.c_uint64),
        ("seen", ctypes.c_void_p),
    )


PARTS.histogram_at.restype = ctypes.c_int64
PARTS.histogram_at.argtypes = (ctypes.POINTER(Histogram), ctypes.c_double)
PARTS.histogram_record.argtypes = (ctypes.POINTER(Histogram), ctypes.c_int64)
PARTS.frame_read.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.POINTER(Frame))
PARTS.frame_write.restype = ctypes.c_size_t
PARTS.frame_write.argtypes = (ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t)
PARTS.chunks_decode.restype = ctypes.c_long
PARTS.chunks_decode.argtypes = (
    ctypes.POINTER(Chunks),
    ctypes.c_char_p,
    ctypes.c_size_t,
    ctypes.POINTER(ctypes.c_size_t),
)
PARTS.find_stamp.restype = ctypes.c_void_p
PARTS.find_stamp.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.POINTER(Stamp))
PARTS.write_stamp.argtypes = (ctypes.c_char_p, ctypes.c_uint64, ctypes.c_int64)
PARTS.receiver_init.restype = ctypes.c_bool
PARTS.receiver_init.argtypes = (ctypes.POINTER(Receiver), ctypes.POINTER(Tally), ctypes.c_uint64)
PARTS.tally_take.argtypes = (ctypes.POINTER(Tally), ctypes.POINTER(Receiver), ctypes.c_uint64)
for asked in (PARTS.receiver_expects, PARTS.receiver_has):
    asked.restype = ctypes.c_uint64
    asked.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64)

TIMES = st.lists(st.integers(0, 10**12), min_size=1, max_size=300)


def recorded(times: list[int]) -> Histogram:
    histogram = Histogram()
    for time in times:
        PARTS.histogram_record(histogram, time)
    return histogram


@given(TIMES, st.floats(0.001, 1))
def test_a_percentile_is_never_less_than_the_truth_and_at_most_a_part_in_128_more(times, quantile):
    reported = PARTS.histogram_at(recorded(times), quantile)
    wanted = quantile * len(times)
    truth = next(t for n, t in enumerate(sorted(times), 1) if n >= wanted)
    assert truth <= reported <= truth * (1 + 1 / 128)


@given(TIMES)
def test_the_longest_time_is_kept_exactly(times):
    histogram = recorded(times)
    assert PARTS.histogram_at(histogram, 1.0) == histogram.max == max(times)
    assert histogram.count == len(times)


def test_a_time_beyond_the_range_is_counted_and_a_clock_that_went_back_is_zero():
    histogram = recorded([2**62, -5])
    assert histogram.count == 2
    assert PARTS.histogram_at(histogram, 0.5) == 0
    assert PARTS.histogram_at(histogram, 1.0) == 2**62


def test_nothing_recorded_is_no_percentile():
    assert PARTS.histogram_at(Histogram(), 0.99) == 0


def read_frame(data: bytes) -> tuple[int, Frame, bytes]:
    frame, held = Frame(), ctypes.create_string_buffer(data, len(data) + 1)
    got = PARTS.frame_read(held, len(data), frame)
    return got, frame, ctypes.string_at(frame.payload, frame.size) if got == 1 else b""


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 100_000])
def test_a_server_frame_of_each_length_is_read_and_not_before_it_is_whole(size):
    payload = bytes(n % 251 for n in range(size))
    whole = ws_text(payload)
    got, frame, reported = read_frame(whole + b"\x81")
    assert (got, frame.opcode, frame.fin, frame.whole) == (1, 1, True, len(whole))
    assert reported == payload
    for cut in {0, 1, 2, 3, 9, len(whole) // 2, len(whole) - 1}:
        if cut < len(whole):
            assert read_frame(whole[:cut])[0] == 0


def test_a_close_frame_has_its_code():
    got, frame, payload = read_frame(ws_close(b"\x0f\xa1"))
    assert (got, frame.opcode, payload) == (1, 8, b"\x0f\xa1")


@pytest.mark.parametrize(
    "data",
    [b"\x81\x81abcdx", b"\xc1\x01x", b"\x81\x7f\x00\x00\x00\x01\x00\x00\x00\x00"],
    ids=["masked", "compressed", "4 GiB"],
)
def test_what_no_server_may_send_is_refused(data):
    assert read_frame(data)[0] == -1


@pytest.mark.parametrize("size", [0, 5, 125, 126, 65_535, 65_536])
def test_a_client_frame_is_masked_as_the_rfc_has_it(size):
    payload = bytes(n % 251 for n in range(size))
    out = ctypes.create_string_buffer(size + 14)
    count = PARTS.frame_write(out, 1, payload, size)
    written = out.raw[:count]
    assert written[0] == 0x81
    length, at = written[1] & 0x7F, 2
    assert written[1] & 0x80
    if length >= 126:
        at = 4 if length == 126 else 10
        length = int.from_bytes(written[2:at], "big")
    assert length == size
    mask, masked = written[at : at + 4], written[at + 4 :]
    assert any(mask)
    assert bytes(b ^ mask[n % 4] for n, b in enumerate(masked)) == payload


def read_head(data: bytes) -> tuple[int, Head]:
    head = Head()
    return PARTS.head_read(data, ctypes.c_size_t(len(data)), ctypes.byref(head)), head


def test_a_response_head_says_its_status_and_how_its_body_is_framed():
    text = b"HTTP/1.1 201 Created\r\nContent-Length: 42\r\nX: y\r\n\r\n"
    got, head = read_head(text + b"body")
    assert (got, head.status, head.length, head.size) == (1, 201, 42, len(text))
    assert not head.chunked
    got, head = read_head(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    assert (got, head.status, head.length, head.chunked) == (1, 200, -1, True)
    assert all(read_head(text[:cut])[0] == 0 for cut in range(len(text)))
    assert read_head(b"SSH-2.0-OpenSSH\r\n\r\n")[0] == -1


def decoded(pieces: list[bytes]) -> tuple[bytes, Chunks]:
    chunks, out = Chunks(), b""
    for piece in pieces:
        held, used = ctypes.create_string_buffer(piece, len(piece) + 1), ctypes.c_size_t()
        got = PARTS.chunks_decode(chunks, held, len(piece), used)
        assert got >= 0
        assert used.value == len(piece) or chunks.over
        out += held.raw[:got]
    return out, chunks


@given(st.lists(st.binary(min_size=1, max_size=400), max_size=8), st.data())
def test_chunks_are_taken_out_wherever_the_bytes_are_cut(bodies, data):
    raw = b"".join(map(http_chunk, bodies))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=12)))
    edges = [0, *cuts, len(raw)]
    pieces = [raw[start:end] for start, end in itertools.pairwise(edges)]
    out, chunks = decoded(pieces)
    assert out == b"".join(bodies)
    assert not chunks.over


def test_the_last_chunk_ends_the_body_with_extensions_and_trailers():
    out, chunks = decoded([b"3;x=y\r\nabc\r\n0\r\nTrailer: z\r\n\r\nHTTP/1.1"])
    assert out == b"abc"
    assert chunks.over


def test_what_is_no_chunk_is_refused():
    chunks, used = Chunks(), ctypes.c_size_t()
    assert PARTS.chunks_decode(chunks, ctypes.create_string_buffer(b"zz\r\n"), 4, used) == -1


def stamps(data: bytes) -> list[tuple[int, int]]:
    held = ctypes.create_string_buffer(data, len(data) + 1)
    start, found, stamp = ctypes.addressof(held), [], Stamp()
    at = start
    while (at := PARTS.find_stamp(at, start + len(data), stamp)) is not None:
        found.append((stamp.id, stamp.at))
    return found


def stamped(number: int, time: int) -> bytes:
    out = ctypes.create_string_buffer(32)
    PARTS.write_stamp(out, number, time)
    return out.raw


@given(
    st.lists(st.tuples(st.integers(0, 10**10 - 1), st.integers(0, 2**62)), max_size=5),
    st.text("@019x", max_size=40),
)
def test_every_stamp_is_found_whatever_stands_around_it(values, noise):
    between = b"x" + noise.encode().replace(b"@@", b"@x") + b"x"
    data = between.join([b"", *(stamped(*each) for each in values), b""])
    assert stamps(data) == values


def test_a_stamp_that_is_cut_off_is_none():
    whole = stamped(7, 8)
    assert all(stamps(whole[:cut]) == [] for cut in range(len(whole)))
    assert stamps(b"@@" + b"x" * 30) == []


def crowd(first: int, room: int, stride: int, remainder: int) -> tuple[Tally, Receiver]:
    tally, receiver = Tally(first=first, room=room, stride=stride), Receiver()
    assert PARTS.receiver_init(receiver, tally, remainder)
    return tally, receiver


@given(
    st.integers(0, 20),
    st.integers(1, 60),
    st.integers(1, 7),
    st.integers(0, 6),
    st.lists(st.integers(0, 90), max_size=120),
    st.integers(0, 90),
    st.integers(0, 90),
)
def test_lost_repeated_late_and_strange_are_four_different_counts(
    first, room, stride, remainder, ids, start, end
):
    remainder %= stride
    tally, receiver = crowd(first, room, stride, remainder)
    seen, newest, twice, late, strange = set(), -1, 0, 0, 0
    for number in ids:
        PARTS.tally_take(tally, receiver, number)
        if not first <= number < first + room or number % stride != remainder:
            strange += 1
        elif number in seen:
            twice += 1
        else:
            late += number < newest
            seen.add(number)
            newest = max(newest, number)
    assert (tally.received, tally.duplicates) == (len(seen), twice)
    assert (tally.out_of_order, tally.unknown) == (late, strange)
    start, end = max(start, first), min(end, first + room)
    expected = {n for n in range(start, end) if n % stride == remainder}
    pointers = ctypes.byref(receiver), ctypes.byref(tally)
    assert PARTS.receiver_expects(*pointers, start, end) == len(expected)
    assert PARTS.receiver_has(*pointers, start, end) == len(expected & seen)


def test_without_a_c_compiler_the_one_that_ziglang_ships_is_taken(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "ziglang" or None)
    assert build.compiler()[1:] == ["-m", "ziglang", "cc"]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(build.NoCompiler, match="pip install ziglang"):
        build.compiler()
