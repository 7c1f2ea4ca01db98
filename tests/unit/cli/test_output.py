"""What a command prints: safe on a terminal, whole in a pipe, and never a traceback."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import telecast.cli
from telecast.config import load_settings
from tests.unit.cli.test_cli_client import FIRST, Service, event, run, service  # noqa: F401

COMMANDS = Path(telecast.cli.__file__).parent
TELECAST = (sys.executable, "-m", "telecast")
EVIL = "calm\u009b2J\u009d0;pwned\u009c\u202eSI"


def on_terminal(*arguments: str, **env: str) -> bytes:
    """What arrives at a terminal that the command is started on."""
    ours, theirs = os.openpty()
    child = subprocess.Popen(
        [*TELECAST, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TELECAST_KEY": "", "LC_ALL": "C.UTF-8", **env},
    )
    os.close(theirs)
    found = b""
    try:
        while some := os.read(ours, 65536):
            found += some
    except OSError:  # Linux: the other side is closed
        pass
    finally:
        child.wait()
        os.close(ours)
    return found


def test_nothing_is_printed_but_through_the_one_function() -> None:
    for path in COMMANDS.rglob("*.py"):
        if path.name != "output.py":
            found = re.findall(r"click\.s?echo|\bprint\(", path.read_text("utf-8"))
            assert not found, path


def test_json_is_escaped_on_a_terminal_and_stays_as_it_was_in_a_pipe(service: Service) -> None:  # noqa: F811
    evil = event(8)
    evil["data"] = {"id": EVIL}
    service.stream = [*FIRST, evil]
    asked = ("tail", "positions", "--json", "--url", service.url, "--count", "1")
    shown = on_terminal(*asked)
    assert b"\\u009b2J" in shown
    assert not re.search("[\x1b\x07\u009b\u009d\u202e]", shown.decode())
    assert EVIL in run(*asked).stdout


@pytest.mark.parametrize("command", ["pub", "replay"])
def test_a_name_in_a_file_can_not_command_the_terminal(command: str, tmp_path: Path) -> None:
    file = tmp_path / "feed\x1b[2J.ndjson"
    file.write_bytes(b'{"t":0,"channel":"x\\u009b2J","data":{"\\u001b]0;pwned":1}}\n')
    words = ["market-data", f"@{file}x"] if command == "pub" else [str(file)]
    shown = on_terminal(command, *words, "--url", "http://127.0.0.1:1")
    assert b"\x1b" not in shown
    assert "\u009b" not in shown.decode()


def test_an_argument_that_is_no_utf8_is_wrong_usage() -> None:
    done = subprocess.run(
        [*TELECAST, "pub", "market-data", b'{"id":"\xff"}'], capture_output=True, check=False
    )
    assert done.returncode == 2
    assert b"Argument 3 is not UTF-8" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_character_that_the_output_lacks_is_escaped(service: Service) -> None:  # noqa: F811
    wide = event(8)
    wide["key"] = "螺纹钢"
    service.stream = [*FIRST, wide]
    done = subprocess.run(
        [*TELECAST, "tail", "positions", "--url", service.url, "--count", "1"],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
    )
    assert done.returncode == 0, done.stderr
    assert rb"\u87ba\u7eb9\u94a2" in done.stdout


def test_a_full_disk_is_a_sentence_and_an_exit_code(service: Service) -> None:  # noqa: F811
    service.stream = [*FIRST, event(8)]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*TELECAST, "tail", "positions", "--url", service.url],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.returncode == 1
    assert b"The output can't be written: No space left on device." in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_command_runs_though_descriptors_are_closed(closed: str, service: Service) -> None:  # noqa: F811
    service.stream = [*FIRST, event(8)]
    script = f'exec "$@" {closed}'
    command = ["bash", "-c", script, "-", *TELECAST, "tail", "positions", "--url", service.url]
    assert subprocess.run([*command, "--count", "1"], check=False).returncode == 0


@pytest.mark.parametrize("command", ["pub", "replay"])
def test_a_file_may_begin_with_a_byte_order_mark(
    command: str,
    service: Service,  # noqa: F811
    tmp_path: Path,
) -> None:
    file = tmp_path / "feed.ndjson"
    file.write_bytes(b'\xef\xbb\xbf{"t":0,"exchange":"OKX","symbol":"BTCUSDT","price":"7.5"}\n')
    words = ["market-data", f"@{file}"] if command == "pub" else [str(file)]
    result = run(command, *words, "--url", service.url)
    assert result.exit_code == 0, result.output


def test_settings_and_keys_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    settings, keys = tmp_path / "telecast.toml", tmp_path / "keys.toml"
    assert run("keys", "new", "desk", "--scope", "read", "--keys", keys).exit_code == 0
    for file, text in ((settings, b"port = 8081\n"), (keys, keys.read_bytes())):
        file.write_bytes(b"\xef\xbb\xbf" + text)
    assert "desk" in run("keys", "list", "--keys", keys).stdout
    assert load_settings({}, environ={}, file=settings).port == 8081
