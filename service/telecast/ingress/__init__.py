"""How events come in: `ingress` takes what publishers ask for, and `checking` looks at what they
bring; in the `backlog` it waits for the one `committer`, which makes a `derivation` of what it
changes and hands it to the journal. Operators change `alerts` by `ingress`, too."""

from telecast.ingress.alerts import Alerts
from telecast.ingress.backlog import Published
from telecast.ingress.checking import Scope
from telecast.ingress.ingress import Ingress, IngressLimits

__all__ = ["Alerts", "Ingress", "IngressLimits", "Published", "Scope"]
