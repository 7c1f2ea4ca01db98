"""Settings: which source wins, and that every mistake is listed at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from telecast.config import (
    Settings,
    from_environment,
    load_one,
    load_settings,
    table,
)
from telecast.errors import SettingsError


def problems(flags=None, environ=None, file=None) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load_settings(flags or {}, environ or {}, file)
    return caught.value.problems


def toml(folder: Path, text: str) -> Path:
    path = folder / "telecast.toml"
    path.write_text(text, "utf-8")
    return path


def test_nothing_set_gives_the_defaults_of_the_table():
    settings = load_settings({}, {})
    assert settings == Settings()
    assert {about.name: about.default for about in table()} == {
        name: getattr(settings, name) for name in Settings.__dataclass_fields__
    }


def test_every_setting_has_a_reason_and_bounds_that_hold_its_default():
    for about in table():
        assert about.why.endswith("."), about.name
        if about.kind in ("whole", "size", "number"):
            assert about.unit, about.name
            assert about.least is not None, about.name
            assert about.least <= about.default <= about.most, about.name
        if about.choices:
            assert about.default in about.choices


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path):
    file = toml(tmp_path, "port = 1\nmax_channels = 1\nactions_burst = 1")
    settings = load_settings(
        {"port": "3", "max_channels": None},
        {"TELECAST_PORT": "2", "TELECAST_MAX_CHANNELS": "2"},
        file,
    )
    assert (settings.port, settings.max_channels, settings.actions_burst) == (3, 2, 1)
    assert settings.config == file


@pytest.mark.parametrize("source", ["flag", "variable"])
def test_the_file_may_be_named_by_flag_or_variable(tmp_path, source):
    file = str(toml(tmp_path, "port = 9"))
    flags = {"config": file} if source == "flag" else {}
    environ = {"TELECAST_CONFIG": file} if source == "variable" else {}
    assert load_settings(flags, environ).port == 9


def test_an_empty_variable_counts_as_not_set():
    empty = dict.fromkeys(("TELECAST_TLS_CERT", "TELECAST_PORT", "TELECAST_CHANNELS"), "")
    assert load_settings({}, empty) == Settings()


def test_variables_of_others_are_left_alone():
    environ = {"PATH": "/bin", "TELECAST_URL": "http://x", "TELECAST_KEY": "k"}
    assert load_settings({}, environ) == Settings()


def test_all_mistakes_are_listed_at_once_each_with_its_source(tmp_path):
    file = toml(tmp_path, 'max_channels = "many"\nmax_frame_byte = 1')
    reported = problems(
        {"port": "eighty"},
        {"TELECAST_LOG_LEVEL": "loud", "TELECAST_BEHIND_PROXI": "true"},
        file,
    )
    assert reported == (
        "port: flag --port is 'eighty'; right would be a whole number from 0 to 65,535 "
        "(TCP port; 0: any that is free).",
        "log_level: TELECAST_LOG_LEVEL is 'loud'; right would be one of debug, info, warning, "
        "error.",
        f"max_channels: {file}:max_channels is 'many'; right would be a whole number from 1 to "
        "1,000 (channels a connection).",
        "'TELECAST_BEHIND_PROXI' (environment) is no setting. Did you mean TELECAST_BEHIND_PROXY?",
        f"'max_frame_byte' ({file}) is no setting. Did you mean max_frame_bytes?",
    )


@pytest.mark.parametrize(
    ("journal", "advice"),
    [
        ("desk.db", "what kind of journal is not said (a file is sqlite:desk.db)"),
        ("nats://me:mine@host/desk", "set nats_user and nats_password_file, or nats_creds"),
    ],
)
def test_a_journal_that_is_nearly_right_gets_what_to_write_and_shows_no_password(journal, advice):
    (reported,) = problems({"journal": journal})
    assert advice in reported
    assert "mine" not in reported


def test_a_name_that_resembles_nothing_is_sent_to_the_list():
    assert problems({"qqqqqq": 1}) == (
        "'qqqqqq' (flag) is no setting. `telecast serve --help` lists them all.",
    )


def test_a_file_that_is_missing_broken_or_not_text_is_one_problem(tmp_path):
    (reported,) = problems(file=tmp_path / "absent.toml")
    assert reported.endswith(
        "but there is no such file; right would be the path of a file that exists."
    )
    (reported,) = problems(file=toml(tmp_path, "port = 1\nhost =\nkeys = 1"))
    assert "is no valid TOML" in reported
    assert "line 2" in reported
    (tmp_path / "telecast.toml").write_bytes(b"\xff")
    (reported,) = problems(file=tmp_path / "telecast.toml")
    assert "is no valid TOML" in reported


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("port", "0", 0),
        ("max_body_bytes", "65536", 65536),
        ("max_body_bytes", "64KiB", 65536),
        ("max_body_bytes", "16 MiB", 16 * 1024 * 1024),
        ("stall_seconds", "1.5", 1.5),
        ("behind_proxy", "TRUE", True),
        ("behind_proxy", "0", False),
        ("log_level", "Debug", "debug"),
        ("journal", "memory:", "memory:"),
        ("journal", "sqlite:/var/lib/x y.db", "sqlite:/var/lib/x y.db"),
        ("allowed_origins", "https://a.example, http://[::1]:8080", None),
    ],
)
def test_texts_are_read_as_their_kind(name, text, value):
    read = getattr(load_settings({}, {f"TELECAST_{name.upper()}": text}), name)
    expected = ("https://a.example", "http://[::1]:8080") if value is None else value
    assert read == expected
    assert type(read) is type(expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "1_000"),
        ("port", " 80"),
        ("port", "٨"),  # a digit of another script
        ("port", True),
        ("port", 80.0),
        ("port", -1),
        ("port", 65536),
        ("max_body_bytes", "8MB"),
        ("max_body_bytes", "1"),
        ("stall_seconds", "inf"),
        ("stall_seconds", float("nan")),
        ("stall_seconds", True),
        ("behind_proxy", "yes"),
        ("behind_proxy", 1),
        ("host", ""),
        ("host", "a b"),
        ("keys", 7),
        ("journal", "postgres:x"),
        ("journal", "sqlite:"),
        ("allowed_origins", "*"),
        ("allowed_origins", "https://a.example/"),
        ("allowed_origins", [1]),
        ("allowed_origins", 1),
        ("log_format", "xml"),
    ],
)
def test_what_merely_resembles_a_value_is_refused(name, value):
    (reported,) = problems({name: value})
    assert reported.startswith(f"{name}: flag --{name.replace('_', '-')} is ")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost", "LocalHost"])
def test_on_loopback_neither_tls_nor_a_proxy_is_needed(host):
    assert load_settings({"host": host}, {}).host == (host,)


def test_several_hosts_may_be_named_and_brackets_belong_to_addresses_of_pages():
    both = ("127.0.0.1", "::1")
    assert load_settings({"host": ("127.0.0.1", "[::1]")}, {}).host == both
    assert load_settings({}, {"TELECAST_HOST": "127.0.0.1, ::1"}).host == both
    (reported,) = problems({"host": ("127.0.0.1", "10.0.0.1")})
    assert reported.startswith("host: 10.0.0.1 is reached from other machines")


def test_what_kubernetes_sets_for_a_service_of_this_name_is_passed_over():
    links = {
        "TELECAST_PORT": "tcp://10.43.0.1:8080",
        "TELECAST_SERVICE_HOST": "10.43.0.1",
        "TELECAST_SERVICE_PORT": "8080",
        "TELECAST_SERVICE_PORT_HTTP": "8080",
        "TELECAST_PORT_8080_TCP": "tcp://10.43.0.1:8080",
        "TELECAST_PORT_8080_TCP_PROTO": "tcp",
        "TELECAST_PORT_8080_TCP_PORT": "8080",
        "TELECAST_PORT_8080_TCP_ADDR": "10.43.0.1",
        "TELECAST_CANARY_SERVICE_HOST": "10.43.0.2",
        "TELECAST_CANARY_PORT": "tcp://10.43.0.2:80",
    }
    assert load_settings({}, links) == load_settings({}, {})
    assert load_settings({}, links | {"TELECAST_PORT": "9090"}).port == 9090


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "desk.example", "localhost.evil"])
def test_off_loopback_it_wants_tls_or_a_proxy(host):
    (reported,) = problems({"host": host})
    assert reported.startswith(f"host: {host} is reached from other machines")
    assert load_settings({"host": host, "behind_proxy": True}, {}).behind_proxy


def test_off_loopback_with_certificate_and_key_is_right(tmp_path):
    pem = tmp_path / "x.pem"
    pem.touch()
    flags = {"host": "0.0.0.0", "tls_cert": pem, "tls_key": str(pem)}
    assert load_settings(flags, {}).tls_key == pem


@pytest.mark.parametrize(("given", "missing"), [("tls_cert", "tls_key"), ("tls_key", "tls_cert")])
def test_half_of_tls_names_the_other_half(tmp_path, given, missing):
    pem = tmp_path / "x.pem"
    pem.touch()
    assert problems({given: pem}) == (
        f"{missing}: it is missing, but {given} is set. TLS needs both.",
    )


def test_limits_that_contradict_each_other_are_refused():
    reported = problems({"max_event_bytes": "512KiB", "backlog_events": 10})
    assert [each.split(":")[0] for each in reported] == ["max_event_bytes", "max_batch_events"]


def test_a_password_in_an_address_is_not_repeated():
    for scheme in ("postgres", "nats"):
        (reported,) = problems({"journal": f"{scheme}://me:hunter2@host/desk"})
        assert "hunter2" not in reported


def test_one_setting_alone_does_not_mind_the_others():
    assert load_one("keys", {}, {"TELECAST_PORT": "x", "TELECAST_KEYS": "a.toml"}) == Path("a.toml")
    with pytest.raises(SettingsError):
        load_one("keys", {"keys": 7}, {})


def test_only_the_clients_own_variables_are_handed_out():
    assert from_environment("TELECAST_URL", {"TELECAST_URL": "http://x"}) == "http://x"
    assert from_environment("TELECAST_KEY", {"TELECAST_KEY": ""}) is None
    with pytest.raises(KeyError):
        from_environment("HOME", {"HOME": "/"})
