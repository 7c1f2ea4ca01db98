"""The log line of a request says what became of it."""

from __future__ import annotations

import logging

import pytest

from tests.support.payloads import position
from tests.support.service.live import served


async def test_a_refusal_has_its_error_code_and_a_publish_the_seq_of_its_commit(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "telecast.web.front.middlewares"):
        async with served() as live:
            receipt = await live.publish("positions", position("p1"), position("p2"))
            await live.refused("positions", {"id": 5})
            await live.ask("GET", "/nothing", who=None)
    said = [
        (line.__dict__["status"], line.__dict__["code"], line.__dict__["seq"])
        for line in caplog.records
        if line.getMessage() == "request"
    ]
    assert said == [
        (201, None, receipt["lastSeq"]),
        (422, "VALIDATION_FAILED", None),
        (404, "NOT_FOUND", None),
    ]
