"""A member's seat in its cohort: its place, or how far it is until it has one."""

from __future__ import annotations


class Seat:
    """Its cohort alone changes it. Who is settled has a place and needs no cursor: it was sent what
    the others were."""

    __slots__ = ("cursor", "place")

    def __init__(self, cursor: int) -> None:
        self.cursor = cursor
        """Of a newcomer: all that the selection holds up to here has been handed to the sink."""
        self.place: int | None = None
        """Where it is among those who are settled; None for a newcomer."""
