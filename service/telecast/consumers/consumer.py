"""What is kept of one consumer, and how near retention is to it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import orjson

from telecast.model import Floor, Position

NEAR = 0.8
"""Of the events that the journal still has whole, a consumer may be behind by this share before it
is warned of."""


class Name(NamedTuple):
    """A client that called itself so, with this key: a clientId belongs to its key."""

    key_id: str
    client_id: str

    def __str__(self) -> str:
        return f"{self.key_id}/{self.client_id}"

    @classmethod
    def parse(cls, text: str) -> Name:
        key_id, _, client_id = text.partition("/")
        return cls(key_id, client_id)


class Standing(StrEnum):
    """Whether what a consumer has not acknowledged is still there."""

    WHOLE = "whole"
    NEAR = "near"
    OVERTAKEN = "overtaken"


@dataclass(frozen=True, slots=True)
class Consumer:
    """Everything up to `position` has been handled. `at` is when that was acknowledged, in ms since
    1970; `channels` are those that it was subscribed to."""

    name: Name
    position: Position
    at: int
    channels: tuple[str, ...]

    def as_note(self) -> bytes:
        return orjson.dumps(
            {"position": str(self.position), "at": self.at, "channels": self.channels}
        )

    @classmethod
    def of_note(cls, key: str, value: bytes) -> Consumer:
        note = orjson.loads(value)
        position = Position.parse(note["position"])
        return cls(Name.parse(key), position, note["at"], tuple(note["channels"]))

    def standing(self, floors: Mapping[str, Floor], head: int, epoch: str) -> Standing:
        """`floors` are the journal's, `head` its newest seq."""
        if self.position.epoch != epoch:
            return Standing.OVERTAKEN
        worst = Standing.WHOLE
        behind = head - self.position.seq
        for name in self.channels:
            floor = floors.get(name)
            if floor is None or not floor.whole_from:
                continue
            if floor.whole_from > self.position.seq:
                return Standing.OVERTAKEN
            if behind > NEAR * (head - floor.whole_from):
                worst = Standing.NEAR
        return worst
