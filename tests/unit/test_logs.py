"""Logs: one record is one line, and no key is ever in it."""

from __future__ import annotations

import contextvars
import io
import logging
import re
from collections.abc import Iterator

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telecast import logs

KEY = "tc_0123abcd_" + "9f" * 32
log = logging.getLogger("telecast.test")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def root_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(format_: str, *calls, level: str = "info") -> list[str]:
    """What is written of log calls; each is (message, *args, {keyword arguments})."""
    out = io.StringIO()
    logging.getLogger().handlers.clear()  # pytest's would raise for a call wrong on purpose
    logs.configure(format_, level, out)
    for message, *rest in calls:
        options = rest.pop() if rest and isinstance(rest[-1], dict) else {}
        log.log(options.pop("severity", logging.INFO), message, *rest, **options)
    assert not out.getvalue() or out.getvalue().endswith("\n")
    return out.getvalue().split("\n")[:-1]


def reported(*call) -> dict:
    (line,) = lines("json", call)
    return orjson.loads(line)


def test_a_record_is_one_json_object_with_the_agreed_fields():
    record = reported("took %d events", 7, {"extra": {"channel": "positions", "count": 7}})
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record.pop("ts"))
    assert record == {
        "level": "INFO",
        "logger": "telecast.test",
        "event": "took 7 events",
        "channel": "positions",
        "count": 7,
    }


def test_the_time_is_utc_with_milliseconds():
    assert logs._rfc3339(0.0) == "1970-01-01T00:00:00.000Z"
    assert logs._rfc3339(1_767_225_599.9994) == "2025-12-31T23:59:59.999Z"


def test_the_ids_of_what_is_served_come_along_unless_the_record_has_its_own():
    def serve() -> list[dict]:
        logs.connection_id.set("c-1")
        logs.correlation_id.set("r-1")
        out = lines("json", ("a",), ("b", {"extra": {"connection_id": "c-2"}}))
        return [orjson.loads(line) for line in out]

    first, second = contextvars.copy_context().run(serve)
    assert (first["connection_id"], first["correlation_id"]) == ("c-1", "r-1")
    assert (second["connection_id"], second["correlation_id"]) == ("c-2", "r-1")
    assert "connection_id" not in reported("outside")


def test_auto_is_text_on_a_terminal_and_json_elsewhere():
    for stream, is_json in ((io.StringIO(), True), (Terminal(), False)):
        logs.configure("auto", "info", stream)
        log.info("hello")
        assert stream.getvalue().startswith("{") is is_json


def test_text_reads_as_time_level_event_and_extras():
    (line,) = lines("text", ("hello %s", "you", {"extra": {"channel": "positions"}}))
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d\.\d{3} INFO    hello you  channel=positions  \(telecast\.test\)", line
    )


def test_less_severe_than_the_level_is_not_logged():
    assert lines("json", ("x",), level="warning") == []
    assert len(lines("json", ("x", {"severity": logging.DEBUG}), level="debug")) == 1


def test_configuring_again_replaces_the_earlier_stream_only():
    other = logging.NullHandler()
    logging.getLogger().addHandler(other)
    first, second = io.StringIO(), io.StringIO()
    logs.configure("json", "info", first)
    logs.configure("json", "info", second)
    log.info("once")
    assert first.getvalue() == ""
    assert second.getvalue().count("\n") == 1
    assert other in logging.getLogger().handlers


@pytest.mark.parametrize(
    "text",
    [
        KEY,
        f"key {KEY.upper()} refused",
        f"GET /ws/telemetry?key={KEY}&x=1",
        "GET /sse/telemetry?ticket=s3cr3t.x-y_z&channels=positions HTTP/1.1",
        "GET /?token=s3cr3t",
        "Cookie: telecast=s3cr3t; other=1",
        'Cookie: a="s3cr3t"',
        "{'Cookie': 'a=s3cr3t; b=2'}",
        "((b'Host', b'x'), (b'Cookie', b'a=s3cr3t'))",
        "Set-Cookie: telecast=s3cr3t; HttpOnly",
        "Authorization: Bearer s3cr3t",
        "sent Bearer s3cr3ts3cr3t to us",
        "<CIMultiDict('X-API-Key': 's3cr3t')>",
        '{"ticket": "s3cr3t", "channel": "positions"}',
        "{'token': b's3cr3t'}",
    ],
)
def test_secrets_are_taken_out_of_every_place(text):
    def assert_clean(written: list[str]) -> None:
        assert written
        whole = "\n".join(written).lower()
        assert "s3cr3t" not in whole
        assert "9f9f" not in whole
        assert logs.REDACTED in whole

    for format_ in ("json", "text"):
        assert_clean(lines(format_, (text,)))
        assert_clean(lines(format_, ("said %s", text)))
        assert_clean(lines(format_, ("said", {"extra": {"what": text}})))
        assert_clean(lines(format_, ("said", {"extra": {"what": {"deep": [text]}}})))
        assert_clean(lines(format_, ("said", {"extra": {"what": {text: 1}}})))
        assert_clean(lines(format_, ("said", {"extra": {"what": ValueError(text)}})))
        assert_clean(lines(format_, ("said", {"extra": {"connection_id": text}})))
        error = RuntimeError(text)
        error.__cause__ = ValueError(text)
        assert_clean(lines(format_, ("said", {"exc_info": error})))


def test_extras_named_like_secrets_are_not_logged_at_all():
    record = reported(
        "x", {"extra": {"ticket": "abc", "headers": {"X-API-Key": "abc", "Host": "h"}}}
    )
    assert record["ticket"] == logs.REDACTED
    assert record["headers"] == {"X-API-Key": logs.REDACTED, "Host": "h"}


def test_what_only_resembles_a_secret_stays():
    text = "idempotencyKey=a monkey=b key BTCUSDT, no cookie, 3 tickets; tc_0123abcd revoked"
    assert reported(text)["event"] == text


@pytest.mark.parametrize("format_", ["json", "text"])
def test_no_value_can_forge_a_line_or_move_the_cursor(format_):
    evil = 'a\n{"level":"INFO"}\r\x1b[2J\x85\u2028\u202e\x00b'
    (line,) = lines(format_, ("got %s", evil, {"extra": {"who": evil, "in": {evil: [evil]}}}))
    assert re.search("[\x00-\x1f\x7f-\x9f\u2028\u202e]", line) is None
    assert r"\n{" in line
    assert r"\x1b" in line


def test_a_traceback_is_one_record_in_json_and_stands_behind_a_bar_in_text():
    error = ValueError("bad\n12:00:00.000 INFO forged")
    record = reported("failed", {"exc_info": error})
    assert record["exc_info"][-2:] == ["ValueError: bad", "12:00:00.000 INFO forged"]
    first, *rest = lines("text", ("failed", {"exc_info": error}))
    assert "failed" in first
    assert rest
    assert all(line.startswith("    | ") for line in rest)


def test_a_long_value_is_cut_and_its_length_logged():
    event = reported("x" * 100_000)["event"]
    assert len(event) < logs.MAX_TEXT + 50
    assert event.endswith("... (100000 characters)")


def test_a_structure_without_end_ends():
    loop: dict = {}
    loop["again"] = loop
    record = reported("x", {"extra": {"loop": loop, "many": list(range(1000))}})
    assert record["loop"]["again"]["again"]
    assert len(record["many"]) == 100


def test_an_extra_can_not_stand_in_for_what_every_line_has():
    record = reported("true", {"extra": {"event": "false", "level": "DEBUG", "ts": 0}})
    assert (record["event"], record["level"]) == ("true", "INFO")
    assert record["event_"] == "false"


def test_arguments_that_do_not_fit_are_logged_and_harm_nobody():
    assert reported("%d events", "many")["event"].startswith("%d events (its arguments don't fit")


def test_other_handlers_get_the_record_as_it_was():
    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            self.kept = record

    other = Keeping()
    error = ValueError(KEY)
    logs.configure("json", "info", io.StringIO())
    logging.getLogger().addHandler(other)
    log.info("said %s", KEY, exc_info=error)
    assert other.kept.args == (KEY,)
    assert other.kept.exc_info[1] is error


def test_a_record_that_can_not_be_written_is_not_printed_raw():
    class Unprintable:
        def __str__(self) -> str:
            raise RuntimeError(KEY)

    (line,) = lines("json", ("x", {"extra": {"what": Unprintable()}}))
    assert line == "telecast.logs: a record was lost to RuntimeError"


@given(
    st.text(),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=6,
    ),
)
def test_whatever_is_said_is_one_valid_line(message, extra):
    assert reported("%s", message, {"extra": {"what": extra}})["level"] == "INFO"
    assert len(lines("text", ("%s", message, {"extra": {"what": extra}}))) == 1
