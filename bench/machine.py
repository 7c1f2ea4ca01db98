"""The machine: which core runs what, what a process has used of it, what it is."""

from __future__ import annotations

import contextlib
import os
import platform
import random
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

TICK = os.sysconf("SC_CLK_TCK")
HOST = "127.0.0.1"


class Cores:
    """One core for the server, another for the load; the same where there is but one."""

    def __init__(self) -> None:
        cores = sorted(os.sched_getaffinity(0))
        self.server = {cores[0]}
        self.load = {cores[-1]}
        self.apart = len(cores) > 1

    @contextlib.contextmanager
    def only(self, cores: set[int]) -> Iterator[None]:
        """What is started within inherits these cores."""
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, cores)
        try:
            yield
        finally:
            os.sched_setaffinity(0, before)


def raise_open_files() -> int:
    """As many open files as we may have; gives the number."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def free_port() -> int:
    """A port below the ephemeral ones, which a subscriber's own end could take."""
    while True:
        port = random.randrange(12_000, 32_000)  # noqa: S311 - no secret
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        return port


def family(pid: int) -> list[int]:
    """The process and all its descendants that live."""
    found = [pid]
    for each in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{each}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


class Spent(NamedTuple):
    """Seconds: on a core by the server's processes, that each core was not idle, and elapsed."""

    cpu: float
    server_core: float
    load_core: float
    elapsed: float

    def since(self, before: Spent) -> Spent:
        return Spent(*(now - then for now, then in zip(self, before, strict=True)))

    def others(self, load: float) -> float:
        """The share of the time for which somebody else was on one of the two cores.

        `load` is the CPU of what was to be on the load's core.
        """
        strangers = max(self.server_core - self.cpu, self.load_core - load, 0.0)
        return strangers / self.elapsed if self.elapsed else 0.0


def spent(pid: int, cores: Cores) -> Spent:
    """As of now. `pid` is the server's; its descendants count with it."""
    server, load = (sum(map(_idle_seconds, each)) for each in (cores.server, cores.load))
    now = time.monotonic()
    return Spent(_cpu_seconds(pid), now - server, now - load, now)


def _cpu_seconds(pid: int) -> float:
    """User and system time together, of all threads that live.

    From /proc/PID/task/TID/schedstat, in ns (kernel: scheduler/sched-stats); where the kernel
    keeps none, from /proc/PID/stat, which counts in ticks of some 10 ms (proc(5)).
    """
    return sum(cpu_of_each(pid).values())


def cpu_of_each(pid: int) -> dict[int, float]:
    """The same for each of its processes."""
    return {each: _cpu_of(each) for each in family(pid)}


def _cpu_of(each: int) -> float:
    cpu = 0
    with contextlib.suppress(OSError):
        try:
            for task in Path(f"/proc/{each}/task").iterdir():
                cpu += int((task / "schedstat").read_text().split()[0])
        except FileNotFoundError:
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            cpu += (int(fields[11]) + int(fields[12])) * 1_000_000_000 // TICK
    return cpu / 1e9


def _idle_seconds(core: int) -> float:
    """How long the core has had nothing to do (proc(5), /proc/stat: idle and iowait)."""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith(f"cpu{core} "):
            fields = line.split()
            return (int(fields[4]) + int(fields[5])) / TICK
    return 0.0


def memory(pid: int) -> dict[str, int]:
    """Bytes of the process and its descendants: `rss`, and `uss`, which is theirs alone."""
    sums = {"rss": 0, "uss": 0}
    for each in family(pid):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines():
                name, _, value = line.partition(":")
                if name == "Rss":
                    sums["rss"] += int(value.split()[0]) * 1024
                elif name in ("Private_Clean", "Private_Dirty"):
                    sums["uss"] += int(value.split()[0]) * 1024
    return sums


def description() -> dict[str, str | int]:
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }
