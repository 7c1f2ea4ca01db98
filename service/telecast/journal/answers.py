"""How a caller that waits for a journal's thread or log gets its answer."""

from __future__ import annotations

import asyncio
from typing import TypeVar

_T = TypeVar("_T")


def answer(future: asyncio.Future[_T], outcome: _T | Exception) -> None:
    """Settle what a caller waits for; one that was cancelled has settled it already."""
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
