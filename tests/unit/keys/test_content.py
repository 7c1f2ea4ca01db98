"""The keys file is changed in place: it stays the same file, and no crash loses the keys."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from telecast.keys import content, create_key, list_keys, revoke_key
from telecast.keys.secret import signing_secret

OLD, NEW, SHORT = b"a = 1\n" * 50, b"b = 2\n" * 90, b"c\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.toml"


def test_a_change_keeps_mode_owner_and_inode(path: Path) -> None:
    create_key(path, "a", ["read"])
    path.chmod(0o640)
    before = path.stat()
    create_key(path, "b", ["read"])
    revoke_key(path, "a")
    after = path.stat()
    for what in ("st_mode", "st_uid", "st_gid", "st_ino"):
        assert getattr(after, what) == getattr(before, what), what
    assert [who.name for who in list_keys(path)] == ["b"]
    assert os.listdir(path.parent) == [path.name]


def test_another_name_of_the_file_shows_the_change(path: Path, tmp_path: Path) -> None:
    """As a bind mount does: it goes on showing the inode that it was made of."""
    create_key(path, "a", ["read"])
    mounted = tmp_path / "mounted.toml"
    mounted.hardlink_to(path)
    revoke_key(path, "a")
    assert list_keys(mounted) == []


@pytest.mark.parametrize("new", [NEW, SHORT])
def test_a_change_is_whole(path: Path, new: bytes) -> None:
    content.write(path, OLD, None)
    content.write(path, new, OLD)
    assert content.read(path) == path.read_bytes() == new


def test_a_new_file_is_for_its_user_alone(path: Path) -> None:
    content.write(path, OLD, None)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(content.ChangedMeanwhile):
        content.write(path, NEW, None)
    assert content.read(path) == OLD


def test_without_hard_links_files_are_made_all_the_same(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    content.write(path, OLD, None)
    with pytest.raises(content.ChangedMeanwhile):
        content.write(path, NEW, None)
    secret = signing_secret(tmp_path / "secret")
    assert signing_secret(tmp_path / "secret") == secret
    assert sorted(os.listdir(tmp_path)) == ["keys.toml", "secret"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}


class Killed(BaseException):
    """The process dies here."""


STEPS = ("open", "fsync", "chmod", "replace", "pwrite", "ftruncate")


@pytest.mark.parametrize("new", [NEW, SHORT])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("nth", [1, 2, 3, 4])
def test_a_change_that_is_broken_off_anywhere_leaves_the_old_or_the_new(
    path: Path, monkeypatch: pytest.MonkeyPatch, step: str, nth: int, new: bytes
) -> None:
    content.write(path, OLD, None)
    with monkeypatch.context() as dying, contextlib.suppress(Killed):
        die_at(dying, step, nth)
        content.write(path, new, OLD)
    left = content.read(path)
    assert left in (OLD, new)
    content.write(path, b"the next", left)
    assert content.read(path) == path.read_bytes() == b"the next"
    assert not content.before_change(path).exists()


def die_at(monkeypatch: pytest.MonkeyPatch, step: str, nth: int) -> None:
    """The nth call of a function of `os` ends the process; a write is done by half."""
    original: Callable[..., Any] = getattr(os, step)
    calls = [0]

    def dying(*arguments: Any, **more: Any) -> Any:
        calls[0] += 1
        if calls[0] < nth:
            return original(*arguments, **more)
        if step == "pwrite":
            handle, data, at = arguments
            original(handle, data[: len(data) // 2], at)
        raise Killed

    monkeypatch.setattr(os, step, dying)


def test_a_half_written_change_is_never_taken_for_the_keys(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content.write(path, OLD, None)
    with monkeypatch.context() as dying:
        die_at(dying, "pwrite", 1)
        with pytest.raises(Killed):
            content.write(path, NEW, OLD)
    assert path.read_bytes() not in (OLD, NEW)
    assert content.read(path) == OLD


def test_nobody_reads_while_a_change_is_under_way(path: Path) -> None:
    content.write(path, OLD, None)
    with path.open("r+b") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        with pytest.raises(content.Changing):
            content.read(path)
    assert content.read(path) == OLD


def test_the_copy_can_be_read_by_those_that_an_acl_lets_read_the_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[str] = []
    content.write(path, OLD, None)
    monkeypatch.setattr(os, "listxattr", lambda _: ["system.posix_acl_access"])
    monkeypatch.setattr(os, "getxattr", lambda _, name: b"acl of " + name.encode())
    monkeypatch.setattr(os, "setxattr", lambda file, name, value: copied.append(name))
    content.write(path, NEW, OLD)
    assert copied == ["system.posix_acl_access"]
