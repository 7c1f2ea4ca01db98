"""One process per journal: an advisory lock on a file beside it, and one on the journal itself."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress

from telecast.errors import JournalLocked, JournalUnavailable


class FileLock:
    """Held from construction to `release`, and let go of by the system when the process dies.

    `PATH.lock` names the holder and is there before the journal is. It stays: removing it would
    let two processes lock two files of one name. The journal's inode is locked as well (`hold`),
    since a file may have several names: a hard link, a bind mount, a path in a container.
    SQLite's locks are of the other kind (fcntl), which flock neither sees nor disturbs.
    """

    def __init__(self, path: str) -> None:
        """Raises JournalLocked, naming the holder's pid, or JournalUnavailable."""
        self._path = path
        self._inode: int | None = None
        try:
            self._handle = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise JournalUnavailable(
                f"{path}.lock can't be opened ({error.strerror}): give the service a directory "
                "that exists and that it may write to."
            ) from error
        if not _take(self._handle):
            holder = os.read(self._handle, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(self._handle)
            raise JournalLocked(
                f"{path} is in use by process {holder}: stop it, or give this one another journal."
            )
        os.ftruncate(self._handle, 0)
        os.write(self._handle, f"{os.getpid()}\n".encode())

    def hold(self) -> None:
        """Lock the journal's inode too, once it is there. Raises JournalLocked.

        To be let go of after SQLite has closed the file: closing any descriptor of a file drops
        the locks that SQLite has on it in this process (sqlite.org/howtocorrupt.html §2.2).
        """
        if self._inode is not None:
            return
        with suppress(FileNotFoundError):
            handle = os.open(self._path, os.O_RDONLY)
            if not _take(handle):
                os.close(handle)
                raise JournalLocked(
                    f"{self._path} is in use by another process under another name (a hard link, "
                    "a mount): stop it, or give this one another journal."
                )
            self._inode = handle

    def release(self) -> None:
        if self._inode is not None:
            os.close(self._inode)
            self._inode = None
        os.close(self._handle)


def _take(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
