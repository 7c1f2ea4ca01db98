"""How events come in: `checking` what a publish brings, `derivation` of what it changes, and
`ingress`, whose one committer hands it to the journal."""

from telecast.ingress.checking import Scope
from telecast.ingress.ingress import SLICE, Ingress, IngressLimits, Published

__all__ = ["SLICE", "Ingress", "IngressLimits", "Published", "Scope"]
