"""What the operating system says of this process."""

from __future__ import annotations

import contextlib
import os
import resource
import sys

_SIZE, _RESIDENT = 0, 1
"""Columns of /proc/self/statm, in pages (proc_pid_statm(5))."""


def cpu_seconds() -> float:
    """User and system time."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def resident_bytes() -> float:
    """Where there is no /proc: the most that it ever was."""
    return _memory(_RESIDENT)


def virtual_bytes() -> float:
    """Where there is no /proc: the resident memory at its most."""
    return _memory(_SIZE)


def _memory(column: int) -> float:
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[column]) * resource.getpagesize()
    except OSError:  # not Linux: the peak, in KiB or (macOS) bytes
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def open_files() -> int:
    """Descriptors; 0 where the system does not list them."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        with contextlib.suppress(OSError):
            return len(os.listdir(folder))
    return 0


def most_files() -> int:
    """Descriptors that may be open at a time."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
