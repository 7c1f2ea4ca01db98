"""SIGHUP lets settings hold that can change while the service runs, and says which can't."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from telecast.errors import SettingsError
from telecast.server import _reload
from tests.support.service.certificate import OPENSSL, certify
from tests.support.service.live import served

needs_openssl = pytest.mark.skipif(OPENSSL is None, reason="openssl makes the certificates")


@pytest.fixture(autouse=True)
def _root_level_as_it_was() -> Iterator[None]:
    level = logging.getLogger().level
    yield
    logging.getLogger().setLevel(level)


async def test_limits_hold_for_those_who_come_next_and_what_needs_a_restart_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with served() as live, live.ws() as first:
        await first.expect("welcome")
        wanted = replace(
            live.parts.settings, max_connections_per_key=1, max_channels=7, tape_events=9
        )
        with caplog.at_level(logging.INFO, "telecast.server"):
            live.server.reload(wanted)
        (line,) = [each for each in caplog.records if each.name == "telecast.server"]
        said = line.__dict__
        assert said["changed"] == ["max_connections_per_key", "max_channels"]
        assert said["need_a_restart"] == ["tape_events"]
        assert live.parts.settings.tape_events != 9
        assert (await live.ask("GET", "/sse/telemetry"))[0] == 429
        assert (await first.ask("subscribe", channels=["positions"]))["type"] == "ack"


async def test_wrong_settings_change_nothing_and_the_log_has_every_mistake(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def wrong() -> None:
        raise SettingsError(["port: wrong", "host: wrong"])

    async with served() as live:
        before = live.parts.settings
        _reload(live.server, wrong)  # type: ignore[arg-type]
        assert live.parts.settings == before
    (line,) = [each for each in caplog.records if each.getMessage() == "settings not read again"]
    assert line.__dict__["problems"] == ("port: wrong", "host: wrong")


@needs_openssl
async def test_a_new_certificate_is_shown_from_then_on_and_a_wrong_one_never(
    tmp_path: Path,
) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    old, new = certify(tmp_path / "old"), certify(tmp_path / "new")
    async with served(trusted=old.trusted(), **old.settings) as live:
        port = int(live.url.rpartition(":")[2])

        async def shown() -> str:
            pem = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port))
            return pem.strip()

        assert await shown() == old.cert.read_text().strip()
        broken = tmp_path / "broken.pem"
        broken.write_text("nothing")
        with pytest.raises(SettingsError):
            live.server.reload(replace(live.parts.settings, tls_cert=broken))
        assert await shown() == old.cert.read_text().strip()
        live.server.reload(replace(live.parts.settings, **new.settings))
        assert await shown() == new.cert.read_text().strip()
