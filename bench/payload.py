"""What is published: an instrument's price as Telecast's `market-data` takes it, of a given size.

Every peer gets the same bytes. `%STAMP%` (32 bytes) and `%KEY%` (6) are filled in by the publisher.
"""

from __future__ import annotations

import json

from telecast.channels.catalogue import CHANNELS

STAMP, KEY = "%STAMP%", "%KEY%"
STAMP_SIZE, KEY_SIZE = 32, 6
LONGEST_TEXT = 4_000
"""Characters in one text of a big payload; the service takes 4,096."""

PRICE = (
    '{"id":"<pad>","symbol":"S%KEY%","price":"12345.67","source":"%STAMP%","isSnapshot":false,'
    '"updatedAt":"2026-01-02T03:04:05.678Z","exchange":"X"}'
)
ALERT = (
    '{"id":"S%KEY%","severity":"WARNING","message":"%STAMP%","violations":[<pad>],'
    '"status":"ACTIVE","createdAt":"2026-01-02T03:04:05.678Z"}'
)
STATUS = (
    '{"id":"S%KEY%","name":"%STAMP%","status":"RUNNING","reason":"<pad>",'
    '"updatedAt":"2026-01-02T03:04:05.678Z"}'
)
POSITION = (
    '{"id":"S%KEY%","traderId":"T","symbol":"X","action":"LONG","quantity":"1",'
    '"entryPrice":"1","currentPrice":"2","unrealizedPnL":"1","status":"UPDATED","reason":"%STAMP%",'
    '"isActive":true,"updatedAt":"2026-01-02T03:04:05.678Z"}'
)


def size_of(template: str) -> int:
    """Bytes of an event that is made from it."""
    return (
        len(template)
        + template.count(STAMP) * (STAMP_SIZE - len(STAMP))
        + template.count(KEY) * (KEY_SIZE - len(KEY))
    )


def price(size: int = 200) -> str:
    """A price of exactly `size` bytes. Raises ValueError where its fields can't make that up."""
    room = size - size_of(PRICE.replace("<pad>", ""))
    if not 1 <= room <= 128:
        raise ValueError(f"A price has from 165 to 292 bytes, not {size}.")
    return PRICE.replace("<pad>", "p" * room)


def alert(size: int) -> str:
    """A risk alert of about `size` bytes: the channel that takes the longest payloads."""
    item = '{"type":"BUDGET","message":"<text>"}'
    room = size - size_of(ALERT.replace("<pad>", ""))
    items = []
    while room > 0:
        text = min(LONGEST_TEXT, max(0, room - len(item) + len("<text>") - 1))
        items.append(item.replace("<text>", "p" * text))
        room -= len(items[-1]) + 1
    return ALERT.replace("<pad>", ",".join(items))


def status() -> str:
    """The shortest payload that there is: a trader's status, some 130 bytes."""
    return STATUS.replace("<pad>", "p")


def of_channel(channel: str) -> str:
    """A short payload for this channel: those that carry a stamp, else its example. Raises
    KeyError where there is no such channel."""
    short = {
        "market-data": price,
        "positions": lambda: POSITION,
        "trader-status": status,
        "risk-alerts": lambda: alert(0),
    }
    if channel in short:
        return short[channel]()
    return json.dumps(CHANNELS[channel].example)
