"""Who is connected: admission and limits, bans, what each client looks like now, and who has ended.

Opened and ended streams come in from the transports, questions from the admin API. It may import
what the fan-out knows of a subscriber, `keys`, `protocol` and `model`, and nothing of HTTP.
"""

from telecast.clients.client import Client, Facts
from telecast.clients.registry import ClientLimits, Clients, Ended

__all__ = ["Client", "ClientLimits", "Clients", "Ended", "Facts"]
