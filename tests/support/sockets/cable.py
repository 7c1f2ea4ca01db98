"""A cable between two network namespaces, with a length, a width and scissors.

Two TUN devices and a thread that carries packets from one to the other: the kernel's TCP at both
ends is the real one, and neither end can see what happens in between. Needs Linux, iproute2 and the
right to make namespaces; `unable` says what is missing.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import itertools
import os
import select
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
MTU = 1_500
NEAR, FAR = "10.203.0.1", "10.203.0.2"
"""The addresses of its ends."""
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_CLONE_NEWNET = 0x40000000
_NUMBERS = itertools.count()


def unable() -> str | None:
    """Why there can't be a cable here, or None."""
    if shutil.which("ip") is None:
        return "iproute2 is not installed"
    name = f"telecast-{os.getpid()}-probe"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode:
        return "network namespaces are not permitted"
    subprocess.run(["ip", "netns", "del", name], check=True)
    return None if os.access("/dev/net/tun", os.R_OK | os.W_OK) else "there is no /dev/net/tun"


class Cable:
    """`delay` in seconds for each way, `rate` in bits a second, `queue` in bytes that wait for it
    (what comes on top is dropped, as a router does). With `here` its near end is in the namespace
    of this process. Use as `with`."""

    def __init__(
        self,
        *,
        delay: float = 0.0,
        rate: float | None = None,
        queue: int = 256 * 1024,
        here: bool = False,
    ) -> None:
        stem = f"telecast-{os.getpid()}-{next(_NUMBERS)}"
        self.near = None if here else f"{stem}-n"
        self.far = f"{stem}-f"
        """The namespaces."""
        self._delay, self._rate, self._queue = delay, rate, queue
        self._whole = True
        self._ends: list[int] = []
        self._stop = os.pipe()
        self._carrier = threading.Thread(target=self._carry, daemon=True)

    def __enter__(self) -> Cable:
        for name, address in ((self.near, NEAR), (self.far, FAR)):
            device = f"cable{os.getpid()}"
            if name is not None:
                _ip("netns", "add", name)
                _ip("-n", name, "link", "set", "lo", "up")
            self._ends.append(within(name, lambda device=device: _tun(device)))
            for words in (
                ("addr", "add", f"{address}/24", "dev", device),
                ("link", "set", device, "mtu", str(MTU), "up"),
            ):
                _ip(*(() if name is None else ("-n", name)), *words)
        self._carrier.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.write(self._stop[1], b"x")
        self._carrier.join()
        for descriptor in (*self._ends, *self._stop):
            os.close(descriptor)
        for name in (self.near, self.far):
            if name is not None:
                _ip("netns", "del", name)

    def cut(self) -> None:
        """From now on nothing arrives, and nobody is notified."""
        self._whole = False

    def mend(self) -> None:
        self._whole = True

    def _carry(self) -> None:
        waiting: list[tuple[float, int, int, bytes]] = []
        free_at = [0.0, 0.0]
        numbers = itertools.count()
        while True:
            now = time.monotonic()
            while waiting and waiting[0][0] <= now:
                _, _, end, packet = heapq.heappop(waiting)
                if self._whole:
                    os.write(self._ends[end], packet)
            pause = max(0.0, waiting[0][0] - now) if waiting else None
            ready, _, _ = select.select([*self._ends, self._stop[0]], [], [], pause)
            if self._stop[0] in ready:
                return
            now = time.monotonic()
            for side, descriptor in enumerate(self._ends):
                if descriptor not in ready:
                    continue
                packet = os.read(descriptor, MTU + 100)
                leaves = now
                if self._rate is not None:
                    starts = max(now, free_at[side])
                    if (starts - now) * self._rate / 8 > self._queue:
                        continue
                    leaves = free_at[side] = starts + len(packet) * 8 / self._rate
                heapq.heappush(waiting, (leaves + self._delay, next(numbers), 1 - side, packet))


def within(namespace: str | None, act: Callable[[], T]) -> T:
    """Do it in a namespace; a socket that is made there stays there."""
    if namespace is None:
        return act()
    found: list[Any] = []

    def run() -> None:
        with open(f"/var/run/netns/{namespace}") as there:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(there.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        found.append(act())

    # A namespace is a thread's own: this one ends with it.
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    result: T = found[0]
    return result


def socket_in(namespace: str | None) -> socket.socket:
    return within(namespace, socket.socket)


def _tun(name: str) -> int:
    descriptor = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH", name.encode(), _IFF_TUN | _IFF_NO_PI))
    return descriptor


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
