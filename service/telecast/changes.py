"""At the start: configured channels are held against what a SQLite journal has of them."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection

from telecast.channels.catalogue import CHANNELS, Catalogue, nearest
from telecast.channels.channel import Channel
from telecast.channels.evolution import digest, misfits
from telecast.errors import SettingsError
from telecast.journal.sqlite.evolution import StoredChannels, stored_channels

log = logging.getLogger(__name__)


def settle_changes(journal: str, catalogue: Catalogue, accepted: Collection[str]) -> None:
    """Refuse channels whose stored rows have become false, or begin them anew where `accepted`.

    Blocking, before the journal is opened. Only channels that have changed since the last start
    are looked at. Raises SettingsError with a sentence for each field, then nothing was changed;
    and what opening the journal raises. Journals of other kinds are not looked at.
    """
    unknown = [name for name in accepted if name not in catalogue or name in CHANNELS]
    own = {name: channel for name, channel in catalogue.items() if name not in CHANNELS}
    if unknown:
        raise SettingsError(
            [
                f"--accept-change {name}: the channels file has no channel {name!r}."
                f"{nearest(name, own)}"
                for name in unknown
            ]
        )
    scheme, _, path = journal.partition(":")
    if scheme != "sqlite" or not own:
        return
    with stored_channels(os.path.expanduser(path)) as stored:
        if stored is not None:
            _settle(stored, own, accepted)


def _settle(stored: StoredChannels, own: dict[str, Channel], accepted: Collection[str]) -> None:
    known = stored.digests()
    now = {name: digest(channel) for name, channel in own.items()}
    changed = [name for name in own if known.get(name) != now[name]]
    problems = []
    anew = []
    for name in changed:
        found = _misfits(stored, own[name])
        if not found:
            continue
        if name in accepted:
            anew.append(name)
            continue
        problems += [f"{name}: {each}." for each in found]
        problems.append(
            f"{name}: change the channels file back; or start once with --accept-change {name}: "
            "the channel then begins anew, without its rows and its history."
        )
    if problems:
        raise SettingsError(problems)
    for name in anew:
        stored.begin_anew(name)
        log.warning("a changed channel begins anew", extra={"channel": name})
    if changed:
        stored.remember({name: now[name] for name in changed})


def _misfits(stored: StoredChannels, channel: Channel) -> list[str]:
    if channel.mode == "keyed":
        return misfits(channel, stored.rows(channel.name))
    rows = sum(1 for _ in stored.rows(channel.name))
    if rows:
        return [f"mode: it is a log now, but has {rows:,} rows"]
    return misfits(channel, stored.events(channel.name))
