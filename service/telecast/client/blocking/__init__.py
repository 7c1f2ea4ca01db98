"""The Python client without asyncio: for scripts and notebooks.

Here is a `Client` whose calls wait for their answer; the asynchronous one works for it, on an event
loop in a thread. What decides anything belongs there, not here. It may import the client alone.
"""

from telecast.client.blocking.client import Client
from telecast.client.blocking.view import View

__all__ = ["Client", "View"]
