"""The keys that hold now, and whether a secret is one of them."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from telecast.channels.catalogue import CHANNELS
from telecast.errors import Code, PeerFault, SettingsError
from telecast.keys.file import (
    Entry,
    Stamp,
    digest,
    new_secret,
    read_keys,
    stamp,
)
from telecast.model import Principal

log = logging.getLogger(__name__)

_KEY = re.compile(r"tc_([0-9a-f]{8})_[0-9a-f]{64}", re.ASCII)
_NOBODY = hashlib.sha256(secrets.token_bytes(32)).hexdigest()
"""What an unknown id is compared with, so that it takes as long as a known one."""


class KeyStore:
    """The keys that hold now. `now` gives seconds since 1970.

    One owner (the app) calls `load` once and `reload_if_changed` from time to time, both of which
    read a small file; everything else touches memory only.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        now: Callable[[], float],
        filters: Collection[str] = CHANNELS.filters,
    ) -> None:
        """`filters` are those that the service's channels have: what a key may force."""
        self._path = path
        self._filters = filters
        self._now = now
        self._entries: Mapping[str, Entry] = {}
        self._seen: Stamp = None
        self._warned: tuple[Stamp] | None = None

    @classmethod
    def of(
        cls,
        *principals: Principal,
        now: Callable[[], float],
        known: Mapping[str, str] = MappingProxyType({}),
    ) -> tuple[KeyStore, dict[str, str]]:
        """A store in memory, and the secret of each principal by its key id.

        Secrets are new but for those in `known`. For the demo and for tests; the ids must be 8 hex
        digits, as in a file.
        """
        store = cls(None, now=now)
        issued = {
            principal.key_id: known.get(principal.key_id) or new_secret(principal.key_id)
            for principal in principals
        }
        store._entries = {
            principal.key_id: Entry(principal, digest(issued[principal.key_id]))
            for principal in principals
        }
        return store, issued

    def __len__(self) -> int:
        return len(self._entries)

    def principals(self) -> Iterator[Principal]:
        """Who holds a key, expired or not."""
        return (entry.principal for entry in self._entries.values())

    def load(self) -> None:
        """Read the file. Raises SettingsError with a sentence for each thing that is wrong."""
        if self._path is not None:
            seen = stamp(self._path)
            self._entries = read_keys(self._path, self._filters)
            self._seen = seen

    def reload_if_changed(self) -> bool:
        """Read the file again if it is not the one last seen; True if other keys hold now.

        A file that is gone, half-written or wrong leaves the last good keys in force, and is
        warned of once, not at every look. One that can't be read now is read at the next look.
        """
        if self._path is None:
            return False
        # Stamped before it is read: a change in between is then seen at the next look.
        seen = stamp(self._path)
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            entries = read_keys(self._path, self._filters)
        except SettingsError as error:
            if self._warned != (seen,):
                log.warning(
                    "The keys file can't be used; the keys read before it stay in force.",
                    extra={"problems": list(error.problems)},
                )
            self._warned = (seen,)
            if isinstance(error.__cause__, OSError):
                self._seen = None  # such as too many open files: a revoked key must not stay
            return False
        self._warned = None
        changed = entries != self._entries
        self._entries = entries
        return changed

    def authenticate(self, secret: str) -> Principal:
        """Who holds this key. Raises PeerFault: UNAUTHENTICATED, or KEY_EXPIRED."""
        match = _KEY.fullmatch(secret)
        entry = self._entries.get(match[1]) if match is not None else None
        known = entry.sha256 if entry is not None else _NOBODY
        same = hmac.compare_digest(digest(secret), known)
        if entry is None or not same:
            raise PeerFault(Code.UNAUTHENTICATED, "This key is not known here.")
        if entry.principal.expired(self._now()):
            raise PeerFault(Code.KEY_EXPIRED, f"The key {entry.principal.name!r} has expired.")
        return entry.principal

    def fingerprint(self, key_id: str) -> str | None:
        """Tells a key from another that once has the same id, and nothing about its secret."""
        entry = self._entries.get(key_id)
        return None if entry is None else digest(f"fingerprint {entry.sha256}")[:16]

    def current(self, key_id: str) -> Principal | None:
        """The rights of a key as they are now; None once it is revoked or expired."""
        entry = self._entries.get(key_id)
        if entry is None or entry.principal.expired(self._now()):
            return None
        return entry.principal
