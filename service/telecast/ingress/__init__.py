"""How events come in: `checking` what a publish brings, `derivation` of what it changes, and
`ingress`, whose one committer hands it to the journal."""

from telecast.ingress.checking import Scope
from telecast.ingress.ingress import Ingress, IngressLimits, Published

__all__ = ["Ingress", "IngressLimits", "Published", "Scope"]
