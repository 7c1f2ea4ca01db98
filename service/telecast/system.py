"""What the service itself has to say on the channel `system`: one function for all of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal

from telecast.channels.catalogue import Catalogue
from telecast.errors import IdempotencyConflict, TelecastError
from telecast.ingress import Ingress
from telecast.model import Principal, rfc3339
from telecast.tape.tape import Tape

log = logging.getLogger(__name__)

CHANNEL = "system"
SERVICE = "telecast"
"""The component that the service itself is."""

Status = Literal["UP", "DEGRADED", "DOWN"]
Kind = Literal["EXCHANGE", "CORE", "SERVICE", "ADMINISTRATION"]

_WRITER = Principal(
    key_id="telecast", name="telecast", scopes=frozenset({"operate", "admin"}), channels=(CHANNEL,)
)


class SystemReports:
    """Publishes to `system`. It never raises: what can't be published is in the log."""

    def __init__(
        self,
        ingress: Ingress,
        tape: Tape,
        catalogue: Catalogue,
        now: Callable[[], float],
        *,
        node: str | None = None,
    ) -> None:
        """`now` gives seconds since 1970; `node` is this one's name where there are several. Where
        `system` is switched off nothing is published."""
        self._node = node
        self._ingress = ingress
        self._tape = tape
        self._on = CHANNEL in catalogue
        self._now = now

    async def report(
        self,
        component: str,
        status: Status,
        message: str | None = None,
        *,
        kind: Kind = "SERVICE",
        once: bool = False,
    ) -> bool:
        """Publish a component's status; return once it is committed, or could not be: False.

        `once` is for what every node notices: only the first in the log's order is kept.

        `since` stays that of the row before while its status is the same. Rows of the kind
        ADMINISTRATION are seen by keys with the scope `admin` only.
        """
        if not self._on:
            return False
        before = self._tape.row(CHANNEL, component)
        row = None if before is None else before.row
        same = row is not None and row["status"] == status and kind != "ADMINISTRATION"
        key = None
        if once:
            if same:
                return True
            # Of the same change, from the same row, on all nodes.
            key = f"{component}:{status}:{0 if before is None else before.seq}"
        payload = {
            "component": component,
            "status": status,
            "kind": kind,
            "message": message,
            "since": row["since"] if row is not None and same else rfc3339(self._now()),
        }
        try:
            await self._ingress.publish(_WRITER, CHANNEL, [payload], idempotency_key=key)
        except IdempotencyConflict:
            return True  # another node has said so already
        except TelecastError as fault:
            log.warning(
                "could not report on the channel system",
                extra={"component": component, "reason": fault.message},
            )
            return False
        return True

    async def started(self) -> None:
        """Take back what the drain before said of the service, if it said anything."""
        before = self._tape.row(CHANNEL, SERVICE) if self._on else None
        if before is not None and before.row["status"] != "UP":
            what = "The service" if self._node is None else f"Node {self._node}"
            await self.report(SERVICE, "UP", f"{what} has started.")

    async def draining(self, subscribers: int) -> None:
        """Say that the service goes down, where anybody is there to see it."""
        if self._node is not None:
            # The others go on: a rolling restart is no end of the service.
            await self.report(SERVICE, "DEGRADED", f"Node {self._node} is going down.")
        elif subscribers:
            await self.report(SERVICE, "DOWN", "The service is going down.")
