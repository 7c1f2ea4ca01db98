"""A channel with a long history that changed is looked at a page at a time."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Collection
from dataclasses import fields, replace

import pytest

from telecast import changes
from telecast.changes import settle_shared
from telecast.channels.configured import catalogue_from
from telecast.errors import SettingsError
from telecast.journal.base import Batch
from telecast.journal.memory import MemoryJournal
from telecast.model import Entry, Page, Record

BEFORE = '[fills]\nmode = "log"\n[fills.fields]\nid = { type = "id" }\nnote = { type = "text" }\n'
AFTER = BEFORE.replace('"text"', '"count"')
EVENTS = 55


class Watched(Entry):
    __slots__ = ("__weakref__",)


class Watching(MemoryJournal):
    """Notes at each read how many entries of earlier ones are still held."""

    def __init__(self) -> None:
        super().__init__({})
        self.reads: list[int] = []
        self.held: list[int] = []
        self._given: list[weakref.ref[Entry]] = []

    async def read(self, channels: Collection[str], after: int, limit: int) -> Page:
        self.reads.append(limit)
        gc.collect()  # what is not loaded leaves cycles through its traceback
        self.held.append(sum(each() is not None for each in self._given))
        page = await super().read(channels, after, limit)
        names = [each.name for each in fields(Entry)]
        entries = tuple(
            Watched(**{name: getattr(each, name) for name in names}) for each in page.entries
        )
        self._given += [weakref.ref(each) for each in entries]
        return replace(page, entries=entries)


@pytest.fixture
async def journal(monkeypatch: pytest.MonkeyPatch) -> Watching:
    monkeypatch.setattr(changes, "PAGE", 10)
    found = Watching()
    await settle_shared(found, catalogue_from(BEFORE), ())
    for number in range(EVENTS):
        data = b'{"id":"f%d","note":"x"}' % number
        await found.append(Batch(records=(Record("fills", f"f{number}", "delete", True, data),)))
    found.reads.clear()
    found.held.clear()
    return found


async def test_of_a_long_history_no_more_than_a_page_is_held(journal: Watching) -> None:
    with pytest.raises(SettingsError) as refusal:
        await settle_shared(journal, catalogue_from(AFTER), ())
    assert f"({EVENTS} stored, such as 'f0')" in str(refusal.value.message)
    assert journal.reads == [10] * 6
    assert max(journal.held) <= 10


async def test_whether_a_channel_began_anew_is_one_short_read(journal: Watching) -> None:
    await settle_shared(journal, catalogue_from(AFTER), ("fills",))
    assert journal.reads == [10] * 12 + [1], "looked at, its rows collected, found empty"
    assert max(journal.held) <= 10
    assert (await journal.read(["fills"], 0, 100)).entries == ()
