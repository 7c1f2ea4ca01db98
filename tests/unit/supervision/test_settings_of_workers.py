"""What a worker is started with is what its parent has."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import orjson
import pytest

from telecast.cli.run.serve import command
from telecast.cli.run.several import words_of
from telecast.config import Settings, as_plain, from_plain, load_settings
from telecast.config.reloading import PARENTS, RELOADABLE, reread
from telecast.errors import SettingsError

LOG = "nats://127.0.0.1:4222/desk"


def test_settings_go_to_a_worker_and_come_out_the_same(tmp_path: Path) -> None:
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).touch()
    config = tmp_path / "telecast.toml"
    config.write_text("max_channels = 3\n")
    settings = load_settings(
        {
            "host": ("0.0.0.0", "::"),
            "workers": "4",
            "journal": LOG,
            "tls_cert": str(tmp_path / "cert.pem"),
            "tls_key": str(tmp_path / "key.pem"),
            "allowed_origins": ("https://desk.example",),
            "drain_seconds": "0.25",
            "max_event_bytes": "16KiB",
            "config": str(config),
        },
        environ={},
    )
    sent = orjson.loads(orjson.dumps(as_plain(settings)))
    # The file is wrong meanwhile: a crash must not make a worker of other settings.
    config.write_text("nonsense")
    assert from_plain(sent) == settings


def test_every_default_survives_too() -> None:
    assert from_plain(as_plain(Settings())) == Settings()


@pytest.mark.parametrize(
    "flags",
    [
        {"workers": "2", "journal": LOG},
        {"host": ("127.0.0.1", "::1"), "behind_proxy": True, "port": "0"},
        {"behind_proxy": False, "path_prefix": "", "allowed_origins": ("https://a.example",)},
    ],
)
def test_a_worker_reads_the_flags_that_its_parent_was_given(flags: dict[str, Any]) -> None:
    context = command.make_context("serve", words_of(flags, ["positions"]))
    given = {name: value for name, value in context.params.items() if value not in (None, ())}
    assert given.pop("accepted") == ("positions",)
    given.pop("accept_secret")
    assert given == flags


def test_a_rolling_restart_takes_all_but_what_must_be_the_same_in_all_workers() -> None:
    before = Settings(workers=2, journal=LOG)
    wanted = dataclasses.replace(
        before, workers=3, journal=LOG + "2", port=1, max_channels=7, tape_events=9
    )
    read = reread(before, wanted, all_but=PARENTS)
    assert read.changed == ["max_channels", "tape_events"]
    assert set(read.kept) == {"workers", "journal", "port"}
    assert (read.settings.journal, read.settings.tape_events) == (LOG, 9)
    assert reread(before, wanted).changed == ["max_channels"]
    assert "max_channels" in RELOADABLE


def test_several_processes_need_a_log_that_they_share() -> None:
    load_settings({"workers": "2", "journal": LOG}, environ={})
    load_settings({"workers": "1", "journal": "memory:"}, environ={})
    with pytest.raises(SettingsError, match=r"2 processes have no common order in sqlite:x\.db"):
        load_settings({"workers": "2", "journal": "sqlite:x.db"}, environ={})
