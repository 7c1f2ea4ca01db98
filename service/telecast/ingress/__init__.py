"""How events come in: `checking` what a publish brings, `derivation` of what it changes, `backlog`,
where it waits, `ingress`, whose one committer hands it to the journal, and `alerts`, which
operators change through it."""

from telecast.ingress.alerts import Alerts
from telecast.ingress.backlog import Published
from telecast.ingress.checking import Scope
from telecast.ingress.ingress import Ingress, IngressLimits

__all__ = ["Alerts", "Ingress", "IngressLimits", "Published", "Scope"]
