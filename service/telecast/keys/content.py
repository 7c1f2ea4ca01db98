"""The bytes of the keys file: read whole or not at all, and changed in place.

A file that is replaced by renaming another over it is a new file: its mode, owner and ACL are
those of whoever ran `telecast keys`, and a bind mount (`docker -v ./keys.toml:...`) shows the old
one for ever. A service would go on with keys that the operator believes revoked. So the file
stays the same file, and its content is written over. What renaming gave is had otherwise:

- A writer holds an exclusive lock (flock), a reader a shared one: nobody reads half a change.
- Before the first byte changes, what was there lies beside it, synced (`.NAME.before-change`),
  and goes once the new content is synced. While it is there and no writer holds the lock, a change
  was broken off: it is then the content, for every reader, and the next writer puts it back.

So a crash at any point leaves the keys before or those after. It would break if a reader took the
file for whole without the lock, or if the copy went before the sync: tests/unit/keys/
test_content.py breaks a change off at each of its steps.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

Stamp = tuple[int, int, int, int, int] | None
"""What changes with a file: its times (ns), size, inode and device. None: there is no file."""


class Changing(Exception):
    """A writer is at work: read it again in a moment."""


class ChangedMeanwhile(Exception):
    """Another has changed the file since it was read."""


def stamp(path: Path) -> Stamp:
    """Raises OSError, but for a file that is not there."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino, stat.st_dev


def before_change(path: Path) -> Path:
    """Where the content lies while it is changed."""
    path = path.resolve()
    return path.with_name(f".{path.name}.before-change")


def read(path: Path) -> bytes:
    """The file's content. Raises OSError, and Changing while it is written."""
    with _locked(path, os.O_RDONLY, fcntl.LOCK_SH | fcntl.LOCK_NB) as handle:
        return _content(path, handle)


def write(path: Path, content: bytes, seen: bytes | None) -> None:
    """Change the file from `seen` (None: make it, for its user alone) to `content`, durably.

    Raises ChangedMeanwhile where it is not `seen` any more, and OSError: then it is as it was.
    """
    path = path.resolve()
    if seen is None:
        _create(path, content)
        return
    with _locked(path, os.O_RDWR, fcntl.LOCK_EX) as handle:
        if _content(path, handle) != seen:
            raise ChangedMeanwhile
        beside = before_change(path)
        if not beside.exists():
            _copy(handle, seen, beside)
        try:
            _overwrite(handle, content)
        except OSError:
            _overwrite(handle, seen, sync=False)  # if that fails too, the copy is what counts
            beside.unlink()
            raise
        beside.unlink()
        _sync_folder(path.parent)


@contextmanager
def _locked(path: Path, flags: int, lock: int) -> Iterator[int]:
    handle = os.open(path, flags)
    try:
        try:
            fcntl.flock(handle, lock)
        except BlockingIOError:
            raise Changing from None
        except OSError:  # a file system without locks: then as good as without
            pass
        yield handle
    finally:
        os.close(handle)


def _content(path: Path, handle: int) -> bytes:
    with contextlib.suppress(FileNotFoundError):
        return before_change(path).read_bytes()
    return _whole(handle)


def _whole(handle: int) -> bytes:
    with os.fdopen(os.dup(handle), "rb") as file:
        file.seek(0)
        return file.read()


def _create(path: Path, content: bytes) -> None:
    """Its content first, then its name: a crash leaves a whole file or none."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        _write_new(draft, content)
        try:
            os.link(draft, path)
        except FileExistsError:
            raise ChangedMeanwhile from None
        except OSError:  # a file system without hard links
            try:
                _write_new(path, content)
            except FileExistsError:
                raise ChangedMeanwhile from None
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()
    _sync_folder(path.parent)


def _write_new(path: Path, content: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _copy(handle: int, content: bytes, beside: Path) -> None:
    """Whoever reads the file must be able to read its copy: the same mode, owner and ACL."""
    draft = beside.with_name(f"{beside.name}.{secrets.token_hex(8)}")
    try:
        _write_new(draft, content)
        stat = os.fstat(handle)
        with contextlib.suppress(PermissionError):
            os.chown(draft, stat.st_uid, stat.st_gid)
        os.chmod(draft, stat.st_mode & 0o777)
        with contextlib.suppress(OSError):  # a file system without ACLs
            for name in os.listxattr(handle):
                os.setxattr(draft, name, os.getxattr(handle, name))
        os.replace(draft, beside)
        _sync_folder(beside.parent)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()


def _overwrite(handle: int, content: bytes, *, sync: bool = True) -> None:
    """In one write, padded to what was there; then cut off."""
    padded = content.ljust(os.fstat(handle).st_size, b"\n")
    done = 0
    while done < len(padded):
        done += os.pwrite(handle, padded[done:], done)
    os.ftruncate(handle, len(content))
    if sync:
        os.fsync(handle)


def _sync_folder(folder: Path) -> None:
    """Make it durable that a file has its name, or has it no more."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
