"""What every reader of a stream's messages can do, whatever it reads them from."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar


class HasType(Protocol):
    @property
    def type(self) -> str: ...


MessageT = TypeVar("MessageT", bound=HasType)


class Reading(Generic[MessageT]):
    async def read(self) -> MessageT:
        """The next message."""
        raise NotImplementedError

    async def expect(self, *types: str) -> MessageT:
        """The next messages, of just these types; returns the last."""
        for kind in types:
            reported = await self.read()
            assert reported.type == kind, (kind, reported)
        return reported

    async def until(self, kind: str) -> list[MessageT]:
        """Everything up to and including the next message of a type."""
        found = [await self.read()]
        while found[-1].type != kind:
            found.append(await self.read())
        return found
