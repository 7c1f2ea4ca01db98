"""Several services on one log, in this process, each with a keys file's content of its own."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from telecast.keys import KeyStore
from telecast.model import Principal
from tests.support.service.live import Live, principal, served
from tests.support.service.nats import NatsServer, shared

SECRET = bytes(32)
_NAMES = itertools.count()


def stream_name() -> str:
    """One that no other test uses."""
    return f"desk-{time.time_ns():x}-{next(_NAMES)}"


@asynccontextmanager
async def nodes(
    folder: Path,
    count: int = 2,
    *,
    holders: Sequence[Principal] = (),
    server: NatsServer | None = None,
    name: str | None = None,
    **settings: Any,
) -> AsyncIterator[list[Live]]:
    """All have the same keys ("desk", who may everything, unless said) and the same secret."""
    url = f"{(server or shared()).url}/{name or stream_name()}"
    holders = holders or (principal(),)
    _, secrets = KeyStore.of(*holders, now=time.time)
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                served(
                    keys=KeyStore.of(*holders, now=time.time, known=secrets)[0],
                    secrets={holder.name: secrets[holder.key_id] for holder in holders},
                    journal=url,
                    journal_copy=folder / f"{number}.db",
                    secret=SECRET,
                    **settings,
                )
            )
            for number in range(count)
        ]
