"""The keys that hold now, and whether a secret is one of them."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
import time
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from telecast.channels.catalogue import CHANNELS
from telecast.errors import Code, PeerFault, SettingsError
from telecast.keys import content
from telecast.keys.file import (
    Entry,
    digest,
    new_secret,
    parse_keys,
    read_raw,
)
from telecast.model import Principal

log = logging.getLogger(__name__)

_KEY = re.compile(r"tc_([0-9a-f]{8})_[0-9a-f]{64}", re.ASCII)
SETTLED_NS = 2 * 10**9
"""A file system's times are coarse: two changes in a row may leave the same one."""
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
        self._seen: content.Stamp = None
        self._digest = b""
        self._revoked: Container[str] = ()
        self._compared: tuple[object, str] = (None, "")
        self.trouble: str | None = None
        """Why the file can't be used just now; the keys read before it stay in force."""

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

    def obey(self, revoked: Container[str]) -> None:
        """Refuse the keys whose ids are in there, now and later, whatever the file says."""
        self._revoked = revoked

    def __len__(self) -> int:
        return len(self._entries)

    def principals(self) -> Iterator[Principal]:
        """Who holds a key, expired or not."""
        return (entry.principal for entry in self._entries.values())

    def load(self) -> None:
        """Read the file. Raises SettingsError with a sentence for each thing that is wrong."""
        if self._path is not None:
            raw = read_raw(self._path)
            self._entries = parse_keys(raw, self._path, self._filters)
            self._digest = hashlib.sha256(raw).digest()

    def reload_if_changed(self) -> bool:
        """Read the file again if it is not the one last seen; True if other keys hold now.

        A file that is gone, wrong or can't be read leaves the last good keys in force. It is
        warned of once, and `trouble` says why until it can be used again.
        """
        if self._path is None:
            return False
        try:
            # Stamped before it is read: a change in between is then seen at the next look.
            seen = content.stamp(self._path)
            if seen is not None and seen == self._seen and self._settled(seen):
                return False
            raw = content.read(self._path)
        except content.Changing:
            return False
        except OSError as error:
            self._seen = None
            self._refuse([f"keys: {self._path} can't be read: {error.strerror}."])
            return False
        self._seen = seen
        known = hashlib.sha256(raw).digest()
        if known == self._digest:
            return False
        self._digest = known
        try:
            entries = parse_keys(raw, self._path, self._filters)
        except SettingsError as error:
            self._refuse(error.problems)
            return False
        if self.trouble is not None:
            log.info("The keys file can be used again.")
        self.trouble = None
        changed = entries != self._entries
        self._entries = entries
        return changed

    def _settled(self, seen: tuple[int, ...]) -> bool:
        """Whether it was changed long enough ago that a later change has another time."""
        return time.time_ns() - seen[1] > SETTLED_NS

    def _refuse(self, problems: Sequence[str]) -> None:
        self._digest = b""
        trouble = " ".join(problems)
        if trouble != self.trouble:
            log.warning(
                "The keys file can't be used; the keys read before it stay in force.",
                extra={"problems": list(problems)},
            )
        self.trouble = trouble

    def authenticate(self, secret: str) -> Principal:
        """Who holds this key. Raises PeerFault: UNAUTHENTICATED, or KEY_EXPIRED."""
        match = _KEY.fullmatch(secret)
        entry = self._entries.get(match[1]) if match is not None else None
        known = entry.sha256 if entry is not None else _NOBODY
        same = hmac.compare_digest(digest(secret), known)
        if entry is None or not same or entry.principal.key_id in self._revoked:
            raise PeerFault(Code.UNAUTHENTICATED, "This key is not known here.")
        if entry.principal.expired(self._now()):
            raise PeerFault(Code.KEY_EXPIRED, f"The key {entry.principal.name!r} has expired.")
        return entry.principal

    def digest(self) -> str:
        """The same for two stores that hold the same keys with the same rights."""
        if self._compared[0] is not self._entries:
            said = sorted(
                (
                    *(key_id, entry.sha256, holder.name, sorted(holder.scopes)),
                    *(list(holder.channels), holder.expires_at or 0.0),
                    sorted((name, sorted(values)) for name, values in holder.forced.items()),
                )
                for key_id, entry in self._entries.items()
                for holder in (entry.principal,)
            )
            self._compared = self._entries, digest(repr(said))[:16]
        return self._compared[1]

    def fingerprint(self, key_id: str) -> str | None:
        """Tells a key from another that once has the same id, and nothing about its secret."""
        entry = self._entries.get(key_id)
        return None if entry is None else digest(f"fingerprint {entry.sha256}")[:16]

    def current(self, key_id: str) -> Principal | None:
        """The rights of a key as they are now; None once it is revoked or expired."""
        entry = self._entries.get(key_id)
        if entry is None or entry.principal.expired(self._now()) or key_id in self._revoked:
            return None
        return entry.principal
