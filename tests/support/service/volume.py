"""A disk of a test's own, that loses its power, or is full: a file system (ext4) in a file.

At a power loss the file system is shut down as it is (the ioctl that xfstests' `godown` uses,
without a flush of its journal): from that moment no write reaches the disk, whoever is running, and
what was not synced is dropped with the memory that held it. Once mounted again it has what its
journal brings back: all that was synced, and of the rest what the kernel happened to have written.
That is a power loss for everything above the device. It does not model a device that lies about a
sync or tears a sector (`tests/faults/disk.py` does the latter), nor a machine whose clock is off.

Needs Linux, root, loop devices and `mkfs.ext4`.
"""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

SHUT_DOWN = 0x8004587D
"""EXT4_IOC_SHUTDOWN, as Linux' include/uapi/linux/ext4.h has it."""
NO_FLUSH = struct.pack("I", 2)
"""EXT4_GOING_FLAGS_NOLOGFLUSH"""
BYTES = 2**30
"""Of the file, which takes up what was written alone."""
FILLER = "filler"


@functools.cache
def why_none() -> str:
    """Why there can't be such a disk here; empty where there can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "a disk that loses its power needs root on Linux"
    if shutil.which("mkfs.ext4") is None:
        return "there is no mkfs.ext4"
    folder = Path(tempfile.mkdtemp(prefix="volume-"))
    try:
        volume = Volume(folder / "image", folder / "mount", 8 * 2**20)
        try:
            volume.lose_power()
        finally:
            volume.unmount()
    except (OSError, subprocess.CalledProcessError) as fault:
        return f"no file can be mounted and shut down here: {fault}"
    finally:
        shutil.rmtree(folder)
    return ""


class Volume:
    """Mounted at `path` from the start. What is in it must be closed before `unmount`."""

    def __init__(self, image: Path, path: Path, size: int = BYTES) -> None:
        self._image = image
        self.path = path
        path.mkdir()
        with image.open("wb") as file:
            file.truncate(size)
        _run("mkfs.ext4", "-q", "-F", "-m", "0", str(image))
        self.mount()

    def mount(self) -> None:
        _run("mount", "-o", "loop", str(self._image), str(self.path))

    def unmount(self) -> None:
        _run("umount", str(self.path))

    def lose_power(self) -> None:
        """From now on nothing reaches the disk. `unmount` and `mount` bring it back."""
        folder = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, SHUT_DOWN, NO_FLUSH)
        finally:
            os.close(folder)

    def fill(self) -> None:
        """Take all the space that is left, to the last block."""
        with (self.path / FILLER).open("wb", buffering=0) as file:
            about = os.statvfs(self.path)
            with suppress(OSError):
                os.posix_fallocate(file.fileno(), 0, about.f_bavail * about.f_frsize)
            file.seek(0, os.SEEK_END)
            with suppress(OSError):
                while True:
                    file.write(bytes(1024))

    def free(self) -> None:
        (self.path / FILLER).unlink()


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)
