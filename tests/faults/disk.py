"""A disk that can be full, slow or failing, and that remembers: disk.c before a process of ours.

`images` gives what a power loss may leave of what was recorded: all that was synced, and of the
rest anything, each sector of its own. Directory changes keep their order, as the journals of
file systems do; without a sync of the directory they may be missing from any point on.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import mmap
import platform
import random
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SOURCE = Path(__file__).with_name("disk.c")
SECTOR = 512
"""Bytes that a disk writes whole or not at all."""
_HEAD = struct.Struct("<cQQI")


@functools.cache
def library() -> Path | str:
    """The compiled shim, or why there is none."""
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return "disk.c knows Linux with glibc only"
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return "there is no C compiler"
    folder = tempfile.mkdtemp(prefix="telecast-disk-")
    atexit.register(shutil.rmtree, folder)
    made = Path(folder) / "disk.so"
    flags = ["-shared", "-fPIC", "-O1"]
    subprocess.run([compiler, *flags, "-o", made, SOURCE, "-ldl", "-pthread"], check=True)
    return made


class Control(ctypes.Structure):
    """`struct control` of disk.c."""

    _fields_ = [
        (name, ctypes.c_int)
        for name in (
            *("full", "hold", "held", "sync_error", "sync_before", "sync_count", "refused"),
            *("shared_only", "folder_only"),
        )
    ]

    full: int
    hold: int
    held: int
    sync_error: int
    sync_before: int
    sync_count: int
    refused: int
    shared_only: int
    folder_only: int


class Disk:
    """`files` is the folder that is watched; `environment` is for processes that live on it."""

    def __init__(self, root: Path) -> None:
        shim = library()
        assert isinstance(shim, Path), shim
        self.files = root / "files"
        self.files.mkdir()
        self._log = root / "log"
        control = root / "control"
        control.write_bytes(bytes(mmap.PAGESIZE))
        with control.open("r+b") as file:
            self.control = Control.from_buffer(mmap.mmap(file.fileno(), 0))
        self.environment = {"LD_PRELOAD": str(shim), "FAULTY_DISK": str(root)}

    def operations(self) -> list[Operation]:
        return list(_parsed(self._log.read_bytes()))


@dataclass(frozen=True, slots=True)
class Operation:
    """`covers`, for a sync: how many operations had been done when it began."""

    kind: str
    inode: int
    offset: int
    data: bytes
    covers: int = 0


def _parsed(log: bytes) -> Iterator[Operation]:
    numbers = {}
    at = count = 0
    while at < len(log):
        numbers[at] = count
        kind, inode, offset, length = _HEAD.unpack_from(log, at)
        data = log[at + _HEAD.size : at + _HEAD.size + length]
        at += _HEAD.size + length
        covers = numbers.get(offset, count) if kind in b"SF" else 0
        yield Operation(kind.decode(), inode, offset, data, covers)
        count += 1


@dataclass(slots=True)
class _File:
    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, Operation]] = field(default_factory=list)


class Remains:
    """Follows the operations one by one, and says what would be left after each."""

    def __init__(self, folder: Path) -> None:
        self._folder_inode = folder.stat().st_ino
        self._files: dict[int, _File] = {}
        self._names: dict[str, _File] = {}
        self._pending_names: list[tuple[int, Operation, _File | None]] = []
        self._count = 0

    def follow(self, done: Operation) -> None:
        number, self._count = self._count, self._count + 1
        match done.kind:
            case "C":
                file = self._files[done.inode] = _File()
                self._pending_names.append((number, done, file))
            case "R" | "U":
                self._pending_names.append((number, done, None))
            case "W" | "T":
                self._files[done.inode].pending.append((number, done))
            case "S" if done.inode == self._folder_inode:
                while self._pending_names and self._pending_names[0][0] < done.covers:
                    _rename(self._names, *self._pending_names.pop(0)[1:])
            case "S":
                file = self._files[done.inode]
                for number, write in file.pending:
                    if number < done.covers:
                        _apply(file.durable, write)
                file.pending = [each for each in file.pending if each[0] >= done.covers]
            case "F" if done.inode in self._files:
                # The system forgets that these are to be written: no later sync writes them.
                file = self._files[done.inode]
                file.pending = [each for each in file.pending if each[0] >= done.covers]

    def image(self, folder: Path, chance: random.Random | None, share: float) -> None:
        """Write the files as they may be found. Of what is not synced `share` is there."""
        names = dict(self._names)
        kept = len(self._pending_names) if share == 1 else 0
        if chance is not None:
            kept = chance.randint(0, len(self._pending_names))
        for _, change, file in self._pending_names[:kept]:
            _rename(names, change, file)
        for name, file in names.items():
            content = bytearray(file.durable)
            for _, write in file.pending:
                if chance is None:
                    if share == 1:
                        _apply(content, write)
                elif write.kind == "T":
                    if chance.random() < share:
                        _apply(content, write)
                else:
                    _apply_torn(content, write, chance, share)
            (folder / name).write_bytes(content)


def _rename(names: dict[str, _File], change: Operation, file: _File | None) -> None:
    if change.kind == "C":
        assert file is not None
        names[change.data.decode()] = file
    elif change.kind == "U":
        names.pop(change.data.decode(), None)
    else:
        was, now = change.data.decode().split("\0")
        names[now] = names.pop(was)


def _apply(content: bytearray, write: Operation) -> None:
    if write.kind == "T":
        del content[write.offset :]
        content.extend(bytes(write.offset - len(content)))
    else:
        _put(content, write.offset, write.data)


def _apply_torn(content: bytearray, write: Operation, chance: random.Random, share: float) -> None:
    if chance.random() < 0.5:  # whole or not at all, as most are
        if chance.random() < share:
            _apply(content, write)
        return
    start, end = write.offset, write.offset + len(write.data)
    while start < end:
        until = min(end, (start // SECTOR + 1) * SECTOR)
        if chance.random() < share:
            _put(content, start, write.data[start - write.offset : until - write.offset])
        start = until


def _put(content: bytearray, at: int, data: bytes) -> None:
    if at > len(content):
        content.extend(bytes(at - len(content)))
    content[at : at + len(data)] = data
