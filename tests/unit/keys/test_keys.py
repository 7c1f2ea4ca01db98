"""Keys: what is stored, who is let in, and a file that people edit while it is in use."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from telecast.errors import PeerFault, SettingsError
from telecast.keys import KeyStore, create_key, list_keys, revoke_key
from telecast.keys import file as keys_file
from telecast.model import Principal

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = NOW.timestamp()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.toml"


def loaded(path: Path, clock: Clock) -> KeyStore:
    store = KeyStore(path, now=clock)
    store.load()
    return store


def entry(**changes: str) -> str:
    """A [[key]] as TOML; a change of "" leaves a field out."""
    fields = {
        "id": '"0123abcd"',
        "name": '"desk"',
        "sha256": f'"{"0" * 64}"',
        "scopes": '["read"]',
        **changes,
    }
    return "[[key]]\n" + "".join(f"{k} = {v}\n" for k, v in fields.items() if v)


def refusal(store: KeyStore, secret: str) -> str:
    with pytest.raises(PeerFault) as caught:
        store.authenticate(secret)
    return caught.value.code


def test_a_new_key_lets_its_holder_in_with_its_rights(path, clock):
    secret = create_key(
        path,
        "desk-1",
        ["read", "operate", "read"],
        channels=["positions", "risk-*"],
        expires=NOW + timedelta(days=1),
        forced={"traderId": ["t2", "t1"]},
    )
    assert re.fullmatch(r"tc_[0-9a-f]{8}_[0-9a-f]{64}", secret)
    who = loaded(path, clock).authenticate(secret)
    assert who == Principal(
        key_id=secret[3:11],
        name="desk-1",
        scopes=frozenset({"read", "operate"}),
        channels=("positions", "risk-*"),
        forced={"traderId": frozenset({"t1", "t2"})},
        expires_at=(NOW + timedelta(days=1)).timestamp(),
    )


def test_the_file_holds_the_hash_of_a_key_and_nobody_else_may_read_it(path):
    secret = create_key(path, "a", ["read"])
    text = path.read_text()
    assert hashlib.sha256(secret.encode()).hexdigest() in text
    assert secret[12:] not in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_keys_differ_and_a_changed_secret_under_a_known_id_is_refused(path, clock):
    first, second = create_key(path, "a", ["read"]), create_key(path, "b", ["read"])
    store = loaded(path, clock)
    assert len(store) == 2
    assert refusal(store, first[:12] + second[12:]) == "UNAUTHENTICATED"
    assert refusal(store, first[:-1] + ("0" if first[-1] != "0" else "1")) == "UNAUTHENTICATED"


@pytest.mark.parametrize(
    "secret", ["", "tc_", "tc_0123abcd_" + "0" * 64, "é" * 76, "\udcff", "x" * 100_000]
)
def test_what_is_no_key_is_refused_whatever_it_is(path, clock, secret):
    create_key(path, "a", ["read"])
    assert refusal(loaded(path, clock), secret) == "UNAUTHENTICATED"


def test_an_unknown_id_costs_the_same_comparison_as_a_known_one(path, clock, monkeypatch):
    secret = create_key(path, "a", ["read"])
    store = loaded(path, clock)
    compared: list[tuple[str, str]] = []

    def counting(a: str, b: str) -> bool:
        compared.append((a, b))
        return a == b

    monkeypatch.setattr("telecast.keys.store.hmac.compare_digest", counting)
    store.authenticate(secret)
    refusal(store, "tc_ffffffff_" + "0" * 64)
    assert [(len(a), len(b)) for a, b in compared] == [(64, 64), (64, 64)]


def test_a_key_ends_at_its_moment_and_is_no_longer_current(path, clock):
    secret = create_key(path, "a", ["read"], expires=NOW + timedelta(seconds=10))
    store = loaded(path, clock)
    clock.now += 9.999
    assert store.current(store.authenticate(secret).key_id) is not None
    clock.now += 0.001
    assert refusal(store, secret) == "KEY_EXPIRED"
    assert store.current(secret[3:11]) is None
    assert store.current("ffffffff") is None


def test_a_wrong_secret_does_not_learn_that_the_key_has_expired(path, clock):
    secret = create_key(path, "a", ["read"], expires=NOW - timedelta(days=1))
    assert refusal(loaded(path, clock), secret[:12] + "0" * 64) == "UNAUTHENTICATED"


def test_a_store_in_memory_gives_out_its_secrets(clock):
    bot = Principal(key_id="00000001", name="bot", scopes=frozenset({"publish"}))
    store, secrets = KeyStore.of(bot, now=clock)
    store.load()
    assert store.authenticate(secrets["00000001"]) is bot
    assert store.reload_if_changed() is False


def test_without_a_file_the_operator_is_shown_how_to_make_one(path, clock):
    with pytest.raises(SettingsError, match=r"telecast keys new"):
        loaded(path, clock)


def test_a_changed_file_is_read_once_and_an_unchanged_one_not_at_all(path, clock, monkeypatch):
    first = create_key(path, "a", ["read"])
    store = loaded(path, clock)
    reads: list[bytes] = []
    monkeypatch.setattr(
        "telecast.keys.store.parse_keys",
        lambda raw, *more: reads.append(raw) or keys_file.parse_keys(raw, *more),
    )
    assert store.reload_if_changed() is False
    second = create_key(path, "b", ["read"])
    revoke_key(path, "a")
    assert store.reload_if_changed() is True
    assert store.reload_if_changed() is False
    assert len(reads) == 1
    assert store.authenticate(second).name == "b"
    assert refusal(store, first) == "UNAUTHENTICATED"


def test_a_file_that_can_not_be_read_now_is_read_at_the_next_look(path, clock, caplog, monkeypatch):
    """Out of files for a moment, a revoked key was let in until the keys changed once more."""
    secret = create_key(path, "a", ["read"])
    create_key(path, "b", ["read"])
    store = loaded(path, clock)
    revoke_key(path, "a")

    def fails(*_: object) -> None:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as out_of_files, caplog.at_level(logging.WARNING):
        out_of_files.setattr("telecast.keys.content.read", fails)
        assert [store.reload_if_changed() for _ in range(3)] == [False] * 3
        assert "Too many open files" in (store.trouble or "")
    assert len(caplog.records) == 1, "it is said once"
    assert store.authenticate(secret).name == "a"
    assert store.reload_if_changed() is True
    assert store.trouble is None
    assert refusal(store, secret) == "UNAUTHENTICATED"


def test_a_change_is_seen_though_size_time_and_inode_stay_the_same(path, clock):
    secret = create_key(path, "a", ["read"])
    store = loaded(path, clock)
    store.reload_if_changed()
    stat, text = path.stat(), path.read_text()
    path.write_text(text.replace(keys_file.digest(secret), "0" * 64))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_ino) == (stat.st_size, stat.st_ino)
    assert store.reload_if_changed() is True
    assert refusal(store, secret) == "UNAUTHENTICATED"


def test_a_file_that_can_not_be_read_says_so(tmp_path, clock):
    with pytest.raises(SettingsError, match="can't be read"):
        loaded(tmp_path, clock)  # a folder
    (tmp_path / "x").write_bytes(b"\xff")
    with pytest.raises(SettingsError, match="can't be read"):
        loaded(tmp_path / "x", clock)


def test_an_id_that_is_taken_is_drawn_again(path, monkeypatch):
    drawn = iter(["00000001", "00000001", "00000002"])
    token_hex = keys_file.secrets.token_hex
    monkeypatch.setattr(
        keys_file.secrets, "token_hex", lambda n: next(drawn) if n == 4 else token_hex(n)
    )
    create_key(path, "a", ["read"])
    create_key(path, "b", ["read"])
    assert [who.key_id for who in list_keys(path)] == ["00000001", "00000002"]


def test_a_comment_that_changes_is_no_change_of_keys(path, clock):
    create_key(path, "a", ["read"])
    store = loaded(path, clock)
    path.write_text("# hello\n" + path.read_text())
    assert store.reload_if_changed() is False


@pytest.mark.parametrize("damage", ["half", "empty-table", "gone"])
def test_a_damaged_file_keeps_the_last_good_keys_and_warns_once(path, clock, caplog, damage):
    secret = create_key(path, "a", ["read"])
    good = path.read_text()
    store = loaded(path, clock)
    if damage == "gone":
        path.unlink()
    else:
        path.write_text(good[: len(good) // 2] if damage == "half" else "[[key]]\n")
    with caplog.at_level(logging.WARNING):
        assert [store.reload_if_changed() for _ in range(3)] == [False] * 3
    assert len(caplog.records) == 1
    assert store.authenticate(secret).name == "a"
    path.write_text(good.replace('"a"', '"renamed"'))
    assert store.reload_if_changed() is True
    assert store.authenticate(secret).name == "renamed"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[key]\n", "no valid TOML"),
        ("key = 7\n", "must be written as [[key]]"),
        ("key = [7]\n", "must be written as [[key]]"),
        ("[keys]\n", "'keys' is not known"),
        (entry(id='"0123ABCD"'), "key 1 (desk): `id` must be 8 hex digits"),
        (entry(id=""), "`id` must be"),
        (entry(name='""'), "`name` must be"),
        (entry(name='"a\\nb"'), "`name` must be"),
        (entry(name=f'"{"x" * 65}"'), "`name` must be"),
        (entry(sha256='"tc_0"'), "`sha256` must be 64 hex digits"),
        (entry(scopes="[]"), "`scopes` must be"),
        (entry(scopes='["root"]'), "read, publish, operate, metrics, admin"),
        (entry(scopes='"read"'), "`scopes` must be"),
        (entry(scopes="[[]]"), "`scopes` must be"),
        (entry(channels="[]"), "`channels` must be"),
        (entry(expires="2027-01-01"), "`expires` must be a time with its zone"),
        (entry(expires="2027-01-01T00:00:00"), "`expires` must be a time with its zone"),
        (entry(expires='"soon"'), "`expires` must be"),
        (entry(filter="{ traderId = [] }"), "`filter` must be"),
        (entry(filter='{ traderId = "t1" }'), "`filter` must be"),
        (entry(scope='["read"]'), "'scope' is not known; the fields are"),
        (entry() + entry(name='"other"'), "key 2 (other): the id 0123abcd stands twice"),
        (entry() + entry(id='"11111111"'), "the name stands twice"),
    ],
)
def test_wrong_content_is_reported_with_its_entry(path, clock, text, said):
    path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        loaded(path, clock)
    assert any(said in problem for problem in caught.value.problems), caught.value.problems


def test_all_mistakes_of_a_file_are_listed_at_once(path, clock):
    path.write_text(entry(id='"x"', scopes="[]") + entry(name='"b"', channels="7"))
    with pytest.raises(SettingsError) as caught:
        loaded(path, clock)
    assert len(caught.value.problems) == 3


def test_what_people_wrote_around_the_keys_is_kept(path):
    path.write_text("# ours\n\n" + entry() + "# the desk's\n")
    create_key(path, "new", ["read"])
    revoke_key(path, "new")
    assert path.read_text().startswith("# ours\n\n[[key]]")
    assert "# the desk's" in path.read_text()


def test_the_last_key_can_go_and_another_come(path):
    create_key(path, "a", ["read"])
    revoke_key(path, "a")
    assert list_keys(path) == []
    create_key(path, "b", ["read"])
    assert [who.name for who in list_keys(path)] == ["b"]


@pytest.mark.parametrize(
    ("name", "scopes", "extra"),
    [
        ("a", ["read"], {}),
        ("", ["read"], {}),
        ("b", ["root"], {}),
        ("b", [], {}),
        ("b", ["read"], {"channels": [""]}),
        ("b", ["read"], {"expires": datetime(2027, 1, 1)}),
        ("b", ["read"], {"forced": {"traderId": []}}),
    ],
)
def test_a_key_that_can_not_be_is_refused_and_the_file_stays(path, name, scopes, extra):
    create_key(path, "a", ["read"])
    before = path.read_bytes()
    with pytest.raises(SettingsError):
        create_key(path, name, scopes, **extra)
    assert path.read_bytes() == before


def test_a_name_that_reads_like_anothers_id_does_not_end_that_key(path):
    path.write_text(entry(id='"11111111"', name='"22222222"') + entry(id='"22222222"'))
    assert revoke_key(path, "22222222").name == "desk"
    with pytest.raises(SettingsError, match="no key with the id or name"):
        revoke_key(path, "desk")


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(path, monkeypatch):
    create_key(path, "a", ["read"])
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SettingsError, match="No space left"):
        create_key(path, "b", ["read"])
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_a_key_that_another_added_meanwhile_is_not_lost(path, monkeypatch):
    create_key(path, "a", ["read"])
    write = keys_file._write

    def other_first(*args: object) -> None:
        monkeypatch.setattr(keys_file, "_write", write)
        create_key(path, "other", ["read"])
        write(*args)

    monkeypatch.setattr(keys_file, "_write", other_first)
    with pytest.raises(SettingsError, match="try again"):
        create_key(path, "b", ["read"])
    assert [who.name for who in list_keys(path)] == ["a", "other"]


def test_a_link_stays_a_link(path, tmp_path):
    real = tmp_path / "real.toml"
    create_key(real, "a", ["read"])
    path.symlink_to(real)
    create_key(path, "b", ["read"])
    assert path.is_symlink()
    assert len(list_keys(real)) == 2
