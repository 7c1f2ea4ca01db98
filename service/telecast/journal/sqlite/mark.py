"""How far a journal was, in a small file beside it, so that an older one is noticed."""

from __future__ import annotations

import os
from contextlib import suppress
from zlib import crc32

from telecast.journal.epoch import is_epoch

_LENGTH = 64
"""Bytes, at the beginning of the file: within one sector, which a disk writes whole or not."""


class Mark:
    """`PATH.head`: an epoch, and a head that this life had reached.

    The journal writes a head here only once it is durable. The mark itself is never synced: a
    power loss may leave any of its versions, and none of them is ahead of the journal.
    """

    def __init__(self, path: str) -> None:
        self.path = f"{path}.head"

    def read(self) -> tuple[str, int] | None:
        """None where there is none that can be relied upon."""
        try:
            with open(self.path, "rb") as file:
                content = file.read(_LENGTH)
        except OSError:
            return None
        fields = content.decode("ascii", "replace").split()
        if len(fields) != 3 or content != _line(*fields[:2]):
            return None
        epoch, head = fields[:2]
        return (epoch, int(head)) if is_epoch(epoch) and head.isdecimal() else None

    def write(self, epoch: str, head: int) -> None:
        """Where the disk refuses, the mark says less than it could: that is all."""
        with suppress(OSError):
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.write(handle, _line(epoch, str(head)))
            finally:
                os.close(handle)


def _line(epoch: str, head: str) -> bytes:
    content = f"{epoch} {head}"
    return f"{content} {crc32(content.encode()):08x}".encode().ljust(_LENGTH - 1) + b"\n"
