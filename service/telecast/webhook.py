"""Sends escalated alerts to a web hook: signed, tried again, bounded, and to public addresses.

The form is that of Standard Webhooks (standardwebhooks.com): `webhook-id` stays the same over all
tries, so that a receiver can pass over what it has, and `webhook-signature` is an HMAC-SHA256 over
id, time and body. What waits is kept in memory alone: the alert itself is in the journal.

An alert that the receiver rejects is tried again by a schedule of its own and holds up no other.
Escalations of one alert are sent in their order: the second waits until the first is over.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import logging
import os
import random
import socket
import stat
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

import aiohttp
import orjson

from telecast import __version__
from telecast.errors import SettingsError
from telecast.model import Row, rfc3339

log = logging.getLogger(__name__)

MOST_WAITING = 1_000
"""Alerts that wait for a try; the oldest goes when another comes."""
MOST_SENDING = 4
"""Requests under way at a time, so that one that hangs does not hold up the rest."""
TRIES = 10
"""Over some 20 minutes."""
FIRST_PAUSE = 2.0
LONGEST_PAUSE = 300.0
TIMEOUT = aiohttp.ClientTimeout(total=10.0)
RETRIED = frozenset({408, 425, 429})
"""Beside all of 5xx: what a receiver may take later. The rest says that it never will."""
LEAST_SECRET, MOST_SECRET = 24, 64
"""Bytes, as Standard Webhooks has it."""


_TRANSLATED = tuple(map(ipaddress.IPv6Network, ("::ffff:0:0/96", "64:ff9b::/96", "::/96")))
"""Their last 32 bits are an IPv4 address: mapped, NAT64 (RFC 6052), compatible."""
_INSIDE = tuple(map(ipaddress.IPv6Network, ("64:ff9b:1::/48", "fec0::/10", "::/127")))
"""Local NAT64 (RFC 8215), site-local, the host itself and none."""


class InsideAddress(OSError):
    """The host's address is no public one."""


@dataclass(slots=True, eq=False)
class _Delivery:
    id: str
    body: bytes
    turn: asyncio.Lock
    """Of its alert: who comes first has it first."""
    task: asyncio.Task[None] | None = None
    sending: bool = False
    """Whether a request is under way."""


def read_secret(path: Path) -> bytes:
    """`whsec_` and base64, on one line. Raises SettingsError, without what it read."""
    advice = f'Make one: echo "whsec_$(openssl rand -base64 32)" > {path}'
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(1024).decode("ascii").strip()
        secret = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except (OSError, ValueError):
        raise SettingsError([f"escalate_secret_file: {path} has no secret. {advice}"]) from None
    if not text.startswith("whsec_") or not LEAST_SECRET <= len(secret) <= MOST_SECRET:
        raise SettingsError(
            [
                f"escalate_secret_file: {path} must have whsec_ and {LEAST_SECRET} to "
                f"{MOST_SECRET} bytes in base64. {advice}"
            ]
        )
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        log.warning(
            "Others can open the web hook's secret file: chmod 600 it, or make a new one.",
            extra={"path": str(path), "mode": oct(stat.S_IMODE(mode))},
        )
    return secret


def signature(secret: bytes, delivery_id: str, at: int, body: bytes) -> str:
    signed = b"%b.%d.%b" % (delivery_id.encode(), at, body)
    digest = hmac.new(secret, signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether it is, and, where a gateway makes another address of it, that one is too."""
    if isinstance(address, ipaddress.IPv6Address):
        if any(address in network for network in _INSIDE):
            return False
        if any(address in network for network in _TRANSLATED):
            return _is_public(ipaddress.IPv4Address(address.packed[-4:]))
        if address.sixtofour is not None:
            return _is_public(address.sixtofour)
    return address.is_global and not address.is_multicast


class Webhook:
    """Owns what waits for the receiver, and sends it."""

    def __init__(
        self,
        url: str | None,
        secret: bytes,
        *,
        inside: bool = False,
        now: Callable[[], float] = time.time,
        pause: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> None:
        """Without a `url` nothing is sent. `inside` allows addresses that are not public."""
        self.outcomes: Counter[str] = Counter()
        """Of deliveries: delivered, failed, dropped; and retried tries."""
        self._url = url
        self._host = "" if url is None else urlsplit(url).netloc
        self._secret = secret
        self._inside = inside
        self._now = now
        self._pause = pause
        self._kept: dict[_Delivery, None] = {}
        """Those that wait or are under way, in the order in which they came."""
        self._turns: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
        self._slots = asyncio.Semaphore(MOST_SENDING)
        self._come = asyncio.Event()
        self.idle = asyncio.Event()
        """Whether nothing waits and nothing is under way."""
        self.idle.set()

    @property
    def on(self) -> bool:
        """Whether there is somewhere to send to."""
        return self._url is not None

    def __len__(self) -> int:
        """Deliveries that wait or are under way."""
        return len(self._kept)

    def escalated(self, channel: str, row: Row) -> None:
        """An alert was escalated: have the receiver know of it."""
        if self._url is None:
            return
        if len(self._kept) >= MOST_WAITING:
            waiting = [each for each in self._kept if not each.sending]
            if len(waiting) >= MOST_WAITING:
                self._drop(waiting[0])
        body = {
            "type": "alert.escalated",
            "timestamp": rfc3339(self._now()),
            "data": {"channel": channel, "alert": row},
        }
        named = f"{channel}:{row['id']}:{row['escalatedAt']}".encode()
        delivery_id = f"msg_{hashlib.sha256(named).hexdigest()[:32]}"
        turn = self._turns.setdefault((channel, str(row["id"])), asyncio.Lock())
        self._kept[_Delivery(delivery_id, orjson.dumps(body), turn)] = None
        self._come.set()
        self.idle.clear()

    def _drop(self, delivery: _Delivery) -> None:
        """Between two tries, or before its first."""
        del self._kept[delivery]
        if delivery.task is not None:
            delivery.task.cancel()
        self.outcomes["dropped"] += 1
        log.error("webhook delivery dropped", extra={"delivery": delivery.id})

    async def run(self) -> None:
        """Send what comes, for ever."""
        connector = aiohttp.TCPConnector(
            limit=MOST_SENDING, force_close=True, socket_factory=self._open_socket
        )
        async with (
            aiohttp.ClientSession(
                connector=connector, timeout=TIMEOUT, cookie_jar=aiohttp.DummyCookieJar()
            ) as session,
            asyncio.TaskGroup() as group,
        ):
            while True:
                await self._come.wait()
                self._come.clear()
                for delivery in self._kept:
                    if delivery.task is None:
                        delivery.task = group.create_task(self._see_to(session, delivery))

    async def _see_to(self, session: aiohttp.ClientSession, delivery: _Delivery) -> None:
        async with delivery.turn:
            outcome = await self._deliver(session, delivery)
        del self._kept[delivery]
        self.outcomes[outcome] += 1
        if not self._kept:
            self.idle.set()

    async def _deliver(self, session: aiohttp.ClientSession, delivery: _Delivery) -> str:
        """Try until it is taken, refused for good, or was tried often enough."""
        for number in range(1, TRIES + 1):
            async with self._slots:
                delivery.sending = True
                why, again = await self._try(session, delivery)
            extra: dict[str, object] = {
                "delivery": delivery.id,
                "host": self._host,
                "tries": number,
            }
            if why is None:
                log.info("webhook delivered", extra=extra)
                return "delivered"
            if not again or number == TRIES:
                break
            self.outcomes["retried"] += 1
            log.warning("webhook not reached", extra={**extra, "reason": why})
            longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (number - 1))
            delivery.sending = False
            await self._pause(longest * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
        log.error("webhook delivery failed", extra={**extra, "reason": why})
        return "failed"

    async def _try(
        self, session: aiohttp.ClientSession, delivery: _Delivery
    ) -> tuple[str | None, bool]:
        """Why it was not taken, None if it was; and whether it is worth another try."""
        assert self._url is not None
        at = int(self._now())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"telecast/{__version__}",
            "webhook-id": delivery.id,
            "webhook-timestamp": str(at),
            "webhook-signature": signature(self._secret, delivery.id, at, delivery.body),
        }
        try:
            async with session.post(
                self._url, data=delivery.body, headers=headers, allow_redirects=False
            ) as response:
                status = response.status
        except InsideAddress as fault:
            return str(fault), False
        except TimeoutError:
            return f"no answer within {TIMEOUT.total:g} s", True
        except (aiohttp.ClientError, OSError) as fault:
            cause: BaseException | None = fault
            while cause is not None:
                if isinstance(cause, InsideAddress):
                    return str(cause), False
                cause = cause.__cause__ or cause.__context__
            return type(fault).__name__, True  # its words may have the address, and a secret in it
        if 200 <= status < 300:
            return None, False
        if 300 <= status < 400:
            return f"it answered {status}: redirects are not followed", False
        return f"it answered {status}", status >= 500 or status in RETRIED

    def _open_socket(self, info: Any) -> socket.socket:
        """Called with the very address that is connected to, so that no name can change between
        the check and the connection. Raises InsideAddress."""
        family, kind, proto, _, place = info
        address = ipaddress.ip_address(place[0].partition("%")[0])
        if not self._inside and not _is_public(address):
            raise InsideAddress(
                f"{self._host} leads to {address}, which is no public address: escalate_inside "
                "allows it"
            )
        return socket.socket(family, kind, proto)
