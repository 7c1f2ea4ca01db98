"""Notes on the way to their owners: what is kept, then each that commits, on whichever node.

What a part of the service knows by its book is what its notes give, taken in the order in which
they committed. Where several nodes share a log, that order is the same on all, and so is what they
know. So an owner changes its state when a note arrives here, and never because `append` returned:
by then a later note of another node may have arrived already.

A note without a value for a key that is not there leaves nothing behind, and still arrives: that is
a signal, in its place among all that commits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from telecast.journal.base import Journal, Note, read_book

Take = Callable[[Note], None]


async def follow_book(journal: Journal, book: str, take: Take) -> None:
    """Give `take` the whole book, key by key, and from then on each note of it that commits.

    For its owner, once. Raises JournalUnavailable and JournalCorrupt.
    """
    arrived: list[Note] = []
    journal.books.follow(book, arrived.append)
    for key, value in (await read_book(journal, book)).items():
        take(Note(book, key, value))
    # What arrived meanwhile is newer than what was read, or the same.
    for note in arrived:
        take(note)
    journal.books.follow(book, take)


def notes_of(changed: Iterable[tuple[tuple[str, str], bytes | None]]) -> tuple[Note, ...]:
    """What a group has changed, as notes."""
    return tuple([Note(book, key, value) for (book, key), value in changed])
