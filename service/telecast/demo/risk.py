"""Limits, and the alerts that they raise: they are reported here, never acted on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from telecast.demo.notation import instant, plain, quotient, rounded
from telecast.model import Row

DESK = "ALL"
"""Stands for the trader in the fingerprints of the whole desk's alerts, whose traderId is null."""
EASE = Decimal("0.9")
"""An alert is resolved below this share of its limit, so that it does not flap about it."""
REPEAT = (8_000, 60_000)
"""Milliseconds to an alert's first repeat, and between the later ones; in between it doubles."""


class Kind(StrEnum):
    EXPOSURE = "EXPOSURE"
    DAILY_LOSS = "DAILY_LOSS"
    LEVERAGE = "LEVERAGE"


class Severity(StrEnum):
    WARNING = "WARNING"
    CRITICAL = "CRITICAL"


@dataclass(frozen=True, slots=True)
class Measure:
    """An amount and what it is held against: the limit is a multiple of `base`."""

    amount: Decimal
    base: Decimal


@dataclass(frozen=True, slots=True)
class Limit:
    kind: Kind
    severity: Severity
    most: Decimal

    def broken(self, measure: Measure) -> bool:
        return measure.amount > self.most * measure.base

    def eased(self, measure: Measure) -> bool:
        return measure.amount <= self.most * measure.base * EASE


def limits(kind: Kind, *, warning: str, critical: str) -> tuple[Limit, Limit]:
    return (
        Limit(kind, Severity.WARNING, Decimal(warning)),
        Limit(kind, Severity.CRITICAL, Decimal(critical)),
    )


@dataclass(slots=True)
class Alert:
    """An alert that is not resolved."""

    limit: Limit
    created: int
    due: int
    """When it is published again, if it lasts."""
    pause: int = REPEAT[0]


@dataclass(slots=True)
class Watch:
    """The limits of one trader, or of the whole desk (`trader_id` None), and their alerts.

    Each limit has one fingerprint, such as t1:CRITICAL:DAILY_LOSS; its alert is published as
    ACTIVE when the limit breaks and from time to time while that lasts, then once RESOLVED.
    """

    trader_id: str | None
    name: str
    limits: tuple[Limit, ...]
    stop: str = "BLOCK"
    """What a critical alert recommends."""
    active: dict[str, Alert] = field(default_factory=dict)

    def fingerprint(self, limit: Limit) -> str:
        return f"{self.trader_id or DESK}:{limit.severity}:{limit.kind}"

    @property
    def critical(self) -> list[str]:
        """Fingerprints of the critical alerts that are active, the oldest first."""
        return [
            key for key, alert in self.active.items() if alert.limit.severity is Severity.CRITICAL
        ]

    def look(self, now: int, measures: Mapping[Kind, Measure]) -> list[Row]:
        """What there is to tell, given how things stand now."""
        return [
            row for limit in self.limits for row in self._judge(now, limit, measures[limit.kind])
        ]

    def _judge(self, now: int, limit: Limit, measure: Measure) -> Iterable[Row]:
        key = self.fingerprint(limit)
        alert = self.active.get(key)
        if alert is None:
            if limit.broken(measure):
                alert = self.active[key] = Alert(limit, now, now + REPEAT[0])
                yield self._row(limit, measure, alert, "ACTIVE")
        elif limit.eased(measure):
            del self.active[key]
            yield self._row(limit, measure, alert, "RESOLVED")
        elif now >= alert.due and limit.broken(measure):
            alert.pause = min(REPEAT[1], alert.pause * 2)
            alert.due = now + alert.pause
            yield self._row(limit, measure, alert, "ACTIVE")

    def _row(self, limit: Limit, measure: Measure, alert: Alert, status: str) -> Row:
        """The risk-alerts payload. `createdAt` is when this alert was first raised."""
        said = _said(self.name, limit, measure, resolved=status == "RESOLVED")
        return {
            "id": self.fingerprint(limit),
            "traderId": self.trader_id,
            "severity": limit.severity.value,
            "recommendation": "WARN" if limit.severity is Severity.WARNING else self.stop,
            "message": said,
            "violations": [
                {
                    "type": limit.kind.value,
                    "message": said,
                    "details": {
                        "measured": plain(measure.amount),
                        "limit": plain(limit.most * measure.base),
                    },
                }
            ],
            "status": status,
            "createdAt": instant(alert.created),
        }


def _said(name: str, limit: Limit, measure: Measure, *, resolved: bool) -> str:
    where = "is back to" if resolved else "is at"
    if limit.kind is Kind.DAILY_LOSS:
        loss, most = (plain(rounded(each * 100, 2)) for each in (_share(measure), limit.most))
        return f"{name}: the day's loss {where} {loss} % of capital; the limit is {most} %."
    what = "exposure" if limit.kind is Kind.EXPOSURE else "leverage"
    of = "capital" if limit.kind is Kind.EXPOSURE else "equity"
    share = plain(rounded(_share(measure), 2))
    return f"{name}: the {what} {where} {share} times {of}; the limit is {plain(limit.most)}."


def _share(measure: Measure) -> Decimal:
    """A share of nothing is given as 0; the details hold the amounts."""
    return quotient(measure.amount, measure.base, 6) if measure.base > 0 else Decimal(0)
