"""The Python client: views that stay current, changes one by one, publishing.

`Client` is what most programs want. `Stream`, `Publisher` and `Watch` are what it is made of, and
what the command line uses. It imports nothing of the service but errors, model and protocol.
"""

from telecast.client.client import Client
from telecast.client.connection.backoff import Backoff
from telecast.client.connection.reports import Dropped, Reconnected
from telecast.client.faults import BadAnswer, Behind, Closed, Refused, Unreachable
from telecast.client.follow import Change, Following, Op
from telecast.client.messages import ServerMessage
from telecast.client.publish import Publisher, Snapshot
from telecast.client.rows import (
    CandleRow,
    ExecutionRow,
    MarketDataRow,
    PositionRow,
    RiskAlertRow,
    SystemRow,
    TraderStatusRow,
)
from telecast.client.store import PositionFile, Store
from telecast.client.stream import Stream
from telecast.client.table import State
from telecast.client.view import Changes, Update, View
from telecast.client.watch import Watch
from telecast.errors import TelecastError

__all__ = [
    "Backoff",
    "BadAnswer",
    "Behind",
    "CandleRow",
    "Change",
    "Changes",
    "Client",
    "Closed",
    "Dropped",
    "ExecutionRow",
    "Following",
    "MarketDataRow",
    "Op",
    "PositionFile",
    "PositionRow",
    "Publisher",
    "Reconnected",
    "Refused",
    "RiskAlertRow",
    "ServerMessage",
    "Snapshot",
    "State",
    "Store",
    "Stream",
    "SystemRow",
    "TelecastError",
    "TraderStatusRow",
    "Unreachable",
    "Update",
    "View",
    "Watch",
]
