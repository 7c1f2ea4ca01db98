"""What the handlers of one application share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

from telecast.audit import Audit
from telecast.channels.catalogue import Catalogue
from telecast.clients import Clients
from telecast.clients.shared import SharedClients
from telecast.config import Settings
from telecast.consumers import Consumers
from telecast.fanout.broadcaster import Broadcaster
from telecast.ingress import Alerts, Ingress
from telecast.journal.base import Journal
from telecast.keys import KeyStore
from telecast.keys.guesses import Guesses
from telecast.keys.tokens import Tokens
from telecast.model import Principal
from telecast.net.admission import Admission
from telecast.net.streams import StreamWires
from telecast.relay import Relay
from telecast.rights import Rights
from telecast.supervision.worker import Worker
from telecast.system import SystemReports
from telecast.tape.tape import Tape
from telecast.turns import Turns
from telecast.watch.lag import Lag
from telecast.watch.staleness import Staleness
from telecast.web.auth.signed_out import SignedOut
from telecast.web.front.budget import Budget
from telecast.web.nodes.members import Members
from telecast.webhook import Webhook


@dataclass(slots=True, eq=False, kw_only=True)
class Parts:
    """Built in this order by `app.create_app`, closed in reverse."""

    settings: Settings
    keys: KeyStore
    catalogue: Catalogue
    journal: Journal
    tape: Tape
    rights: Rights
    broadcaster: Broadcaster
    relay: Relay
    ingress: Ingress
    audit: Audit
    alerts: tuple[Alerts, ...]
    webhook: Webhook
    system: SystemReports
    clients: Clients
    shared_clients: SharedClients
    consumers: Consumers
    tokens: Tokens
    signed_out: SignedOut
    turns: Turns
    """For whatever a request may take long for."""
    admission: Admission
    bodies: Budget
    answers: Budget
    streams: StreamWires
    guesses: Guesses
    lag: Lag
    staleness: Staleness
    members: Members
    now: Callable[[], float]
    """Seconds since 1970."""
    worker: Worker | None = None
    """This process among several; None where it is the only one."""
    started_at: float = field(init=False)
    """Seconds since 1970."""
    frames_refused: Counter[str] = field(default_factory=Counter, init=False)
    """Reason to WebSockets that were ended because of a frame."""
    draining: bool = field(default=False, init=False)
    broken: str | None = field(default=None, init=False)
    """Why a task has died: the service is then not ready for good."""

    def __post_init__(self) -> None:
        self.started_at = self.now()

    def change(self, settings: Settings) -> None:
        """Let other settings hold from now on: for new connections and requests."""
        self.settings = settings
        self.clients.limit(
            max_connections=settings.max_connections,
            max_connections_per_key=settings.max_connections_per_key,
            max_connections_per_address=settings.max_connections_per_address,
        )
        for each in self.alerts:
            each.escalate_after(settings.escalate_after)

    def begin_drain(self) -> None:
        """New work is not welcome any more."""
        self.draining = True

    def break_down(self, reason: str) -> None:
        """A task has died. The first reason stays."""
        self.broken = self.broken or reason

    def refuse_frame(self, reason: str) -> None:
        """A WebSocket is ended because of a frame."""
        self.frames_refused[reason] += 1

    @property
    def ready(self) -> bool:
        """Whether new work is welcome."""
        return all(reason is None for _, reason in self.checks())

    def checks(self) -> list[tuple[str, str | None]]:
        """(name, why not) of each thing that readiness needs; no secrets in them."""
        return [
            ("accepting", "draining" if self.draining else None),
            ("journal", self.journal.failure()),
            ("keys", self.keys.trouble),
            ("history", None if self.relay.ready else "still being read"),
            ("tasks", self.broken),
        ]


PARTS = web.AppKey("parts", Parts)
CORRELATION = web.RequestKey("correlation", str)
COMMITTED = web.RequestKey("committed", int)
"""The seq of the last event that a request has committed."""
PRINCIPAL = web.RequestKey("principal", Principal)
CONNECTION = web.RequestKey("connection", str)
"""The id of the stream that a request has become."""


def parts_from(request: web.Request) -> Parts:
    return request.app[PARTS]
