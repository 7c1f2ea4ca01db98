"""How far each named client has acknowledged what it got: kept durably, so that it can go on there.

Acknowledgements come in from the transports, positions and warnings go out. It may import
`journal`, `model` and `errors`, and knows no connection.
"""

from telecast.consumers.consumer import Consumer, Name
from telecast.consumers.consumers import ConsumerLimits, Consumers

__all__ = ["Consumer", "ConsumerLimits", "Consumers", "Name"]
