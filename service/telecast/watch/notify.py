"""Reports to systemd how the service is: ready, going down, alive (sd_notify(3)).

Where no supervisor asks (no NOTIFY_SOCKET), nothing is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket


class Notifier:
    """`address` is that of NOTIFY_SOCKET; `watchdog` the seconds of silence that mean death."""

    def __init__(self, address: str | None, watchdog: float | None) -> None:
        self._address = address
        self._watchdog = watchdog

    def say(self, state: str) -> None:
        """Send a line such as READY=1. A supervisor that is not there is no fault of ours."""
        if not self._address:
            return
        # An address that begins with @ is in the abstract namespace of Linux.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            line.setblocking(False)
            line.sendto(state.encode(), address)

    async def beat(self) -> None:
        """Say that the loop turns, twice as often as is asked for; without end."""
        if not (self._address and self._watchdog):
            return
        while True:
            self.say("WATCHDOG=1")
            await asyncio.sleep(self._watchdog / 2)
