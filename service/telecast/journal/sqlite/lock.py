"""One process per journal: an advisory lock on a file beside it."""

from __future__ import annotations

import os
import sys

from telecast.errors import JournalLocked, JournalUnavailable

if sys.platform == "win32":  # pragma: no cover
    import msvcrt

    _FAR = 1 << 30  # Windows locks bytes against reading too: lock one that the pid is not in

    def _take(handle: int) -> None:
        os.lseek(handle, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(handle, 0, os.SEEK_SET)
else:
    import fcntl

    def _take(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


class FileLock:
    """Held from construction to `release`, and let go of by the system when the process dies.

    The file stays: removing it would let two processes lock two files of one name.
    """

    def __init__(self, path: str) -> None:
        """Raises JournalLocked, naming the holder's pid, or JournalUnavailable."""
        try:
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise JournalUnavailable(
                f"{path} can't be opened ({error.strerror}): give the service a directory that "
                "exists and that it may write to."
            ) from error
        try:
            _take(self._handle)
        except OSError as error:
            holder = os.read(self._handle, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(self._handle)
            raise JournalLocked(
                f"{path.removesuffix('.lock')} is in use by process {holder}: stop it, or give "
                "this one another journal."
            ) from error
        os.ftruncate(self._handle, 0)
        os.write(self._handle, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        os.close(self._handle)
