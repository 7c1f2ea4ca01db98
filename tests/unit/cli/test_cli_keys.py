"""`telecast keys`: what is printed where, and how it ends."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import click
import orjson
import pytest
from click.testing import CliRunner, Result

from telecast.cli import COMMANDS, main
from telecast.cli.exits import Exit, StrictViolation, Unreachable, exit_for, lines_for
from telecast.cli.lazy import Lazy, LazyGroup
from telecast.cli.options import settings_options
from telecast.config import load_settings, table
from telecast.errors import OwnFault, PeerFault, SettingsError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.toml"


def run(*arguments: str | Path, env: dict[str, str] | None = None) -> Result:
    return CliRunner(env=env).invoke(main, [str(each) for each in arguments])


def test_new_prints_the_key_alone_and_its_advice_elsewhere(path):
    result = run("keys", "new", "desk", "--scope", "read", "--expires", "90d", "--keys", path)
    assert result.exit_code == Exit.OK
    assert re.fullmatch(r"tc_[0-9a-f]{8}_[0-9a-f]{64}\n", result.stdout)
    assert "only time" in result.stderr
    assert result.stdout.strip() not in result.stderr


def test_a_key_can_go_to_a_file_for_its_user_alone_that_is_not_overwritten(path, tmp_path):
    out = tmp_path / "desk.key"
    result = run("keys", "new", "desk", "--scope", "read", "--keys", path, "--out", out)
    assert (result.exit_code, result.stdout) == (Exit.OK, "")
    assert re.fullmatch(r"tc_[0-9a-f]{8}_[0-9a-f]{64}\n", out.read_text())
    assert out.stat().st_mode & 0o777 == 0o600
    again = run("keys", "new", "other", "--scope", "read", "--keys", path, "--out", out)
    assert again.exit_code == Exit.ERROR
    assert "not overwritten" in again.stderr
    assert len(tomllib.loads(path.read_text())["key"]) == 1, "no key was made that nobody has"


def test_a_key_whose_file_can_not_be_written_is_printed_and_not_lost(path, tmp_path):
    out = tmp_path / "nowhere" / "desk.key"
    result = run("keys", "new", "desk", "--scope", "read", "--keys", path, "--out", out)
    assert result.exit_code == Exit.ERROR
    assert result.stdout.startswith("tc_")
    assert "printed instead" in result.stderr


def test_what_is_asked_for_is_what_the_file_says(path):
    filters = ["--filter", "traderId=t1", "--filter", "traderId=t2", "--filter", "symbol=A=B"]
    run(
        *("keys", "new", "bot", "--scope", "read", "--scope", "publish"),
        *("--channel", "positions", "--channel", "risk-*", *filters),
        *("--expires", "2099-01-01T01:00:00+01:00", "--keys", path),
    )
    (key,) = tomllib.loads(path.read_text())["key"]
    assert (key["name"], key["scopes"]) == ("bot", ["read", "publish"])
    assert key["channels"] == ["positions", "risk-*"]
    assert key["filter"] == {"traderId": ["t1", "t2"], "symbol": ["A=B"]}
    assert key["expires"] == datetime(2099, 1, 1, tzinfo=UTC)


def test_the_variable_names_the_file_and_the_flag_wins(path, tmp_path):
    env = {"TELECAST_KEYS": str(path), "TELECAST_PORT": "not our concern"}
    assert run("keys", "new", "a", "--scope", "read", env=env).exit_code == 0
    assert path.exists()
    other = tmp_path / "other.toml"
    assert run("keys", "new", "a", "--scope", "read", "--keys", other, env=env).exit_code == 0
    assert other.exists()


def test_list_shows_rights_and_never_a_hash(path):
    run("keys", "new", "desk", "--scope", "admin", "--filter", "traderId=t1", "--keys", path)
    (key,) = tomllib.loads(path.read_text())["key"]
    result = run("keys", "list", "--keys", path)
    head, row = result.stdout.splitlines()
    assert head.split() == ["ID", "NAME", "SCOPES", "CHANNELS", "EXPIRES", "FILTER"]
    assert row.split() == [key["id"], "desk", "admin", "*", "never", "traderId=t1"]
    assert key["sha256"] not in result.output


def test_list_as_json_is_for_scripts(path):
    run("keys", "new", "desk", "--scope", "read", "--keys", path)
    text = path.read_text() + "expires = 2001-01-01T00:00:00Z\n"
    path.write_text(text)
    (row,) = orjson.loads(run("keys", "list", "--json", "--keys", path).stdout)
    assert re.fullmatch(r"[0-9a-f]{8}", row.pop("id"))
    assert row == {
        "name": "desk",
        "scopes": ["read"],
        "channels": ["*"],
        "expires": "2001-01-01T00:00:00Z",
        "expired": True,
        "filter": {},
    }
    assert "2001-01-01T00:00:00Z (over)" in run("keys", "list", "--keys", path).stdout


def test_an_empty_list_says_how_to_make_a_key_but_not_on_stdout(path):
    path.touch()
    result = run("keys", "list", "--keys", path)
    assert (result.exit_code, result.stdout) == (Exit.OK, "")
    assert "telecast keys new" in result.stderr


@pytest.mark.parametrize("by", ["id", "name"])
def test_revoke_takes_the_id_or_the_name(path, by):
    run("keys", "new", "desk", "--scope", "read", "--keys", path)
    (key,) = tomllib.loads(path.read_text())["key"]
    assert run("keys", "revoke", key[by], "--keys", path).exit_code == Exit.OK
    assert "key" not in tomllib.loads(path.read_text())


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("new", "x"), Exit.USAGE, "--scope"),
        (("new", "x", "--scope", "root"), Exit.USAGE, "'root' is not one of"),
        (("new", "x", "--scope", "read", "--filter", "traderId"), Exit.USAGE, "field=value"),
        (("new", "x", "--scope", "read", "--expires", "soon"), Exit.USAGE, "write 90d"),
        (("new", "x", "--scope", "read", "--expires", "9999999d"), Exit.USAGE, "write 90d"),
        (
            ("new", "x", "--scope", "read", "--expires", "9999-12-31T23:59:59-12:00"),
            Exit.USAGE,
            "write 90d",
        ),
        (("new", "x", "--scope", "read", "--expires", "0d"), Exit.USAGE, "is over already"),
        (("new", "x", "--scope", "read", "--expires", "2099-01-01"), Exit.USAGE, "lacks its zone"),
        (("new", "x\n", "--scope", "read"), Exit.ERROR, "`name` must be"),
        (("revoke", "nobody"), Exit.ERROR, "no key with the id or name 'nobody'"),
        (("lost",), Exit.USAGE, "No such command"),
    ],
)
def test_what_is_wrong_is_said_on_stderr_with_its_code_and_no_traceback(
    path, arguments, code, said
):
    path.touch()
    # After the verb: a group's own options would end it before.
    verb, *rest = arguments
    result = run("keys", verb, "--keys", path, *rest)
    assert result.exit_code == code
    assert result.stdout == ""
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert path.read_text() == ""


def test_a_wrong_file_is_reported_problem_by_problem(path):
    path.write_text("[[key]]\nid = 1\n")
    result = run("keys", "list", "--keys", path)
    assert result.exit_code == Exit.ERROR
    assert [line[:7] for line in result.stderr.splitlines()] == ["Error: "] * 4


def test_a_help_imports_no_command():
    code = (
        "import sys; from telecast.cli import main\n"
        "try: main(['--help'])\n"
        "finally: print(sorted(m for m in sys.modules if m in ('aiohttp', 'marshmallow', "
        "'tomlkit', 'telecast.cli.admin.keys')), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "keys" in done.stdout
    assert done.stderr == "[]\n"


WITHOUT_OPTIONAL_PACKAGES = """\
import sys
for missing in ("nats", "rich"):
    sys.modules[missing] = None  # importing it raises ModuleNotFoundError
from telecast.cli import main
"""


def without_optional_packages(program, *arguments):
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_OPTIONAL_PACKAGES + program, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_plain_install_has_every_command():
    done = without_optional_packages(
        "for name in main.list_commands(None): print(main.get_command(None, name).name)"
    )
    assert done.returncode == Exit.OK, done.stderr
    assert set(COMMANDS) == set(done.stdout.split())


@pytest.mark.parametrize(
    "arguments",
    [
        ("journal", "move", "sqlite:telecast.db", "nats://127.0.0.1:1/desk"),
        ("journal", "copy", "copy.db", "--journal", "nats://127.0.0.1:1/desk"),
        ("journal", "restored", "nats://127.0.0.1:1/desk"),
        ("doctor", "http://127.0.0.1:1", "--journal", "nats://127.0.0.1:1/desk"),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_what_needs_nats_says_how_to_install_it(arguments):
    done = without_optional_packages("main(sys.argv[1:])", *arguments)
    assert done.returncode == Exit.ERROR
    assert "pip install 'telecast[nats]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_mistyped_command_is_a_usage_error_that_names_the_nearest():
    result = run("keyss")
    assert result.exit_code == Exit.USAGE
    assert "Did you mean 'keys'?" in result.stderr


def test_the_help_lists_each_command_with_its_line():
    result = run("-h")
    assert result.exit_code == Exit.OK
    for name, lazy in COMMANDS.items():
        assert re.search(rf"^  {name} +{lazy.help[:20]}", result.stdout, re.MULTILINE)


def test_every_listed_command_is_there():
    context = click.Context(main)
    assert main.list_commands(context) == list(COMMANDS)
    for name in COMMANDS:
        assert main.get_command(context, name).name == name


@pytest.mark.parametrize(
    ("error", "code", "first"),
    [
        (PeerFault("KEY_EXPIRED", "It has expired."), 3, "Error: It has expired."),
        (PeerFault("FORBIDDEN", "Not yours."), 3, "Error: Not yours."),
        (OwnFault("INTERNAL", "Oh."), 1, "Error: Oh."),
        (SettingsError(["a: wrong.", "b: wrong."]), 1, "Error: a: wrong."),
        (Unreachable("Nobody at x."), 4, "Error: Nobody at x."),
        (StrictViolation("A gap."), 5, "Error: A gap."),
        (click.UsageError("What?"), 2, "Usage: "),
    ],
)
def test_each_error_ends_with_its_code(monkeypatch, error, code, first):
    @click.command()
    def command() -> None:
        raise error

    group = LazyGroup("telecast", lazy={"fail": Lazy("telecast.cli.admin.keys", "Fails.")})
    monkeypatch.setattr("telecast.cli.admin.keys.command", command)
    result = CliRunner().invoke(group, ["fail"])
    assert result.exit_code == code
    assert result.stderr.startswith(first)


def test_the_advice_of_an_error_follows_it():
    error = PeerFault("KEY_EXPIRED", "It has expired.")
    assert lines_for(error) == [
        "Error: It has expired.",
        "Ask the operator for a new key: `telecast keys new NAME --scope ...`.",
    ]
    assert exit_for(error) is Exit.AUTH


def test_every_setting_becomes_an_option_whose_value_reaches_the_settings():
    seen = {}

    @click.command()
    @settings_options(only=[about.name for about in table() if about.name != "journal"])
    def serve(**flags: object) -> None:
        seen.update(flags)

    origins = ("https://a.example", "https://b.example")
    given = ["--port", "81", "--no-behind-proxy", "--max-body-bytes", "1MiB"]
    for origin in origins:
        given += ["--allowed-origins", origin]
    result = CliRunner().invoke(serve, given)
    assert result.exit_code == 0, result.output
    assert set(seen) == {about.name for about in table()} - {"journal"}
    settings = load_settings(seen, {"TELECAST_BEHIND_PROXY": "true"})
    assert (settings.port, settings.behind_proxy, settings.max_body_bytes) == (81, False, 1048576)
    assert settings.allowed_origins == origins
    shown = CliRunner().invoke(serve, ["--help"]).output
    assert all(about.flag in shown for about in table() if about.name != "journal")


def test_a_channel_that_matches_nothing_is_a_warning_with_the_nearest(path):
    words = ("keys", "new", "a", "--scope", "read", "--channel", "postions", "--keys", path)
    result = run(*words)
    assert result.exit_code == Exit.OK
    assert "no channel matches 'postions'. Did you mean 'positions'?" in result.stderr
    quiet = run("keys", "new", "b", "--scope", "read", "--channel", "risk-*", "--keys", path)
    assert "Warning" not in quiet.stderr
