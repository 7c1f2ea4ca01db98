"""What the channel system says in the demo: which exchanges answer, and whether trading goes on.

An exchange is judged by its ticks alone, as a feed handler would: it is UP from a tick on, DEGRADED
when none has come for a while, and DOWN after a longer one. So this can't contradict the prices.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from telecast.demo.notation import instant
from telecast.model import Row

DEGRADED_AFTER = 4_000
DOWN_AFTER = 10_000
"""Milliseconds without a tick of an exchange."""
CORE = "core"
EXCHANGE = "exchange:"
"""What the components of exchanges begin with."""


@dataclass(slots=True)
class Component:
    status: str
    since: int
    heard: int
    """When its last tick came."""


class Connectivity:
    """The exchanges that ticks have come from, and the core that trades on them."""

    def __init__(self) -> None:
        self._exchanges: dict[str, Component] = {}
        self._core = Component("", 0, 0)

    def tick(self, now: int, market: Row) -> Iterator[Row]:
        """A price has come: it tells before the price that its exchange answers."""
        exchange = market.get("exchange")
        if exchange is None:
            return
        known = self._exchanges.get(exchange)
        if known is None or known.status != "UP":
            self._exchanges[exchange] = known = Component("UP", now, now)
            yield _row(EXCHANGE + exchange, "EXCHANGE", known, "Prices come.")
        known.heard = now

    def passed(self, now: int) -> Iterator[Row]:
        """Time has passed: exchanges that have gone silent."""
        for exchange, known in self._exchanges.items():
            silent = now - known.heard
            if silent >= DOWN_AFTER:
                yield from self._turn(now, exchange, known, "DOWN")
            elif silent >= DEGRADED_AFTER:
                yield from self._turn(now, exchange, known, "DEGRADED")

    def trading(self, now: int, halted_by: str | None) -> Iterator[Row]:
        """Whether an alert of the whole desk has stopped everybody, and which."""
        status = "UP" if halted_by is None else "DEGRADED"
        if self._core.status not in (status, "DOWN"):
            self._core = Component(status, now, now)
            stopped = f"All trading is stopped by the alert {halted_by}."
            yield _row(CORE, "CORE", self._core, stopped if halted_by else "All traders may trade.")

    def end(self, now: int) -> Iterator[Row]:
        """No more prices will come."""
        self._core = Component("DOWN", now, now)
        yield _row(CORE, "CORE", self._core, "The tape has ended.")
        for exchange, known in self._exchanges.items():
            yield from self._turn(now, exchange, known, "DOWN")

    @staticmethod
    def _turn(now: int, exchange: str, known: Component, status: str) -> Iterator[Row]:
        if known.status != status:
            known.status, known.since = status, now
            message = f"The last price came at {instant(known.heard)}."
            yield _row(EXCHANGE + exchange, "EXCHANGE", known, message)


def _row(component: str, kind: str, known: Component, message: str) -> Row:
    return {
        "component": component,
        "status": known.status,
        "kind": kind,
        "message": message,
        "since": instant(known.since),
    }
