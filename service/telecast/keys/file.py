"""Reading and changing the keys file; its form is described on top of the package."""

from __future__ import annotations

import hashlib
import re
import secrets
import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT

from telecast.channels.catalogue import CHANNELS
from telecast.errors import SettingsError
from telecast.keys import content
from telecast.model import SCOPES, Principal

FIELDS = ("id", "name", "sha256", "scopes", "channels", "expires", "filter")
MAX_NAME = 64

_ID = re.compile(r"[0-9a-f]{8}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Entry:
    """A key as the file has it: whose it is, and the SHA-256 of its text."""

    principal: Principal
    sha256: str


def create_key(
    path: Path,
    name: str,
    scopes: Sequence[str],
    *,
    channels: Sequence[str] = ("*",),
    expires: datetime | None = None,
    forced: Mapping[str, Iterable[str]] | None = None,
    filters: Collection[str] = CHANNELS.filters,
) -> str:
    """Add a key to the file (made if there is none) and return its text, which is kept nowhere.

    `expires` must carry a time zone; `filters` are those that the channels have. Raises
    SettingsError for rights that can't be, a name that is taken, or a file that is wrong already.
    """
    document, keys, seen = _open(path, filters, missing_ok=True)
    key_id = _unused_id(keys)
    secret = new_secret(key_id)
    table = tomlkit.table()
    table["id"] = key_id
    table["name"] = name
    table["sha256"] = digest(secret)
    table["scopes"] = list(dict.fromkeys(scopes))
    if tuple(channels) != ("*",):
        table["channels"] = list(channels)
    if expires is not None:
        table["expires"] = expires
    if forced:
        inline = tomlkit.inline_table()
        inline.update({field: sorted(values) for field, values in forced.items()})
        table["filter"] = inline
    if any(entry.get("name") == name for entry in keys):
        raise SettingsError(
            [f"There is a key named {name!r} already: choose another name, or revoke it first."]
        )
    problems: list[str] = []
    _entry(table.unwrap(), "the new key", filters, problems)
    if problems:
        raise SettingsError(problems)
    keys.append(table)
    document["key"] = keys
    _write(path, tomlkit.dumps(document), seen)
    return secret


def list_keys(path: Path, *, filters: Collection[str] = CHANNELS.filters) -> list[Principal]:
    """The keys of the file in its order, expired ones too. Raises SettingsError."""
    return [entry.principal for entry in read_keys(path, filters).values()]


def revoke_key(
    path: Path, id_or_name: str, *, filters: Collection[str] = CHANNELS.filters
) -> Principal:
    """Take a key out of the file, by its id or else its name, and return what it was.

    Raises SettingsError if there is none.
    """
    document, keys, seen = _open(path, filters, missing_ok=False)
    for field in ("id", "name"):  # a name that reads like another key's id must not end that key
        for index, table in enumerate(keys):
            if table[field] == id_or_name:
                revoked = read_keys(path, filters)[table["id"]].principal
                del keys[index]
                if not keys:
                    del document["key"]
                _write(path, tomlkit.dumps(document), seen)
                return revoked
    raise SettingsError([f"{path} has no key with the id or name {id_or_name[:80]!r}."])


def digest(secret: str) -> str:
    # A header may bring lone surrogates; such a text is no key, but must not be a crash either.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def new_secret(key_id: str) -> str:
    return f"tc_{key_id}_{secrets.token_hex(32)}"


def _unused_id(keys: AoT) -> str:
    taken = {table.get("id") for table in keys}
    while (key_id := secrets.token_hex(4)) in taken:
        pass
    return key_id


def _bytes(path: Path, *, missing_ok: bool) -> bytes | None:
    try:
        return content.read(path)
    except content.Changing:
        raise SettingsError([f"keys: {path} is being changed just now; try again."]) from None
    except FileNotFoundError:
        if missing_ok:
            return None
        advice = "`telecast keys new NAME --scope read` makes it."
        raise SettingsError([f"keys: there is no file {path}. {advice}"]) from None
    except OSError as error:
        raise SettingsError([f"keys: {path} can't be read: {error}."]) from error


def _text(raw: bytes, path: Path) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SettingsError([f"keys: {path} can't be read: {error}."]) from None


def _open(
    path: Path, filters: Collection[str], *, missing_ok: bool
) -> tuple[tomlkit.TOMLDocument, AoT, bytes | None]:
    """The file to be changed: only one that is right as it is, or mistakes would be covered up."""
    raw = _bytes(path, missing_ok=missing_ok)
    try:
        document = tomlkit.parse(_text(raw or b"", path))
    except TOMLKitError as error:
        raise SettingsError([f"keys: {path} is no valid TOML: {error}."]) from error
    _entries(document.unwrap(), path, filters)
    keys = document.get("key", tomlkit.aot())
    if not isinstance(keys, AoT):
        raise SettingsError([f"{path}: write each key under [[key]], not key = [...]."])
    return document, keys, raw


def read_keys(path: Path, filters: Collection[str] = CHANNELS.filters) -> dict[str, Entry]:
    """Every key of the file by its id. Raises SettingsError with a sentence for each mistake."""
    return parse_keys(read_raw(path), path, filters)


def read_raw(path: Path) -> bytes:
    """What is in the file. Raises SettingsError."""
    return _bytes(path, missing_ok=False) or b""


def parse_keys(raw: bytes, path: Path, filters: Collection[str]) -> dict[str, Entry]:
    """Parsed by the standard library, in an eighth of the time: a service does this on its loop.

    Raises SettingsError; `path` is for its words.
    """
    try:
        tables = tomllib.loads(_text(raw, path))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SettingsError([f"keys: {path} is no valid TOML: {error}."]) from error
    return _entries(tables, path, filters)


def _entries(
    tables_of: Mapping[str, Any], path: Path, filters: Collection[str]
) -> dict[str, Entry]:
    problems = [
        f"{path}: {name!r} is not known; keys stand under [[key]]."
        for name in tables_of
        if name != "key"
    ]
    entries: dict[str, Entry] = {}
    names: dict[str, str] = {}
    tables = tables_of.get("key", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise SettingsError([f"{path}: `key` must be written as [[key]], once for each key."])
    for number, table in enumerate(tables, 1):
        where = f"{path}: key {number}" + (f" ({table['name']})" if "name" in table else "")
        entry = _entry(table, where, filters, problems)
        if entry is None:
            continue
        who = entry.principal
        if who.key_id in entries:
            problems.append(f"{where}: the id {who.key_id} stands twice; each key has its own.")
        if who.name in names:
            problems.append(f"{where}: the name stands twice; each key has another name.")
        entries[who.key_id] = entry
        names[who.name] = who.key_id
    if problems:
        raise SettingsError(problems)
    return entries


def _entry(
    table: Mapping[str, Any], where: str, filters: Collection[str], problems: list[str]
) -> Entry | None:
    """The key that a table describes; None, and a sentence for each mistake, if it is wrong."""
    found = len(problems)

    def must(right: bool, sentence: str) -> None:
        if not right:
            problems.append(f"{where}: {sentence}")

    for field in table:
        must(field in FIELDS, f"{field!r} is not known; the fields are {', '.join(FIELDS)}.")
    name = table.get("name")
    must(
        isinstance(name, str) and 0 < len(name) <= MAX_NAME and name.isprintable(),
        f"`name` must be a text of 1 to {MAX_NAME} printable characters.",
    )
    must(_fits(_ID, table.get("id")), "`id` must be 8 hex digits in lower case.")
    must(
        _fits(_DIGEST, table.get("sha256")),
        "`sha256` must be 64 hex digits in lower case: the SHA-256 of the whole key.",
    )
    scopes: Any = table.get("scopes")
    must(
        _texts(scopes) and set(scopes) <= set(SCOPES),
        f"`scopes` must be a list with one or more of {', '.join(SCOPES)}.",
    )
    channels = table.get("channels", ["*"])
    must(_texts(channels), '`channels` must be a list of globs, such as ["positions", "risk-*"].')
    expires = table.get("expires")
    must(
        expires is None or (isinstance(expires, datetime) and expires.tzinfo is not None),
        "`expires` must be a time with its zone, such as 2027-01-01T00:00:00Z.",
    )
    forced = table.get("filter", {})
    must(
        isinstance(forced, dict) and all(_texts(values) for values in forced.values()),
        '`filter` must be a table of lists, such as { traderId = ["t1"] }.',
    )
    for field in forced if isinstance(forced, dict) else ():
        # A misspelt one would narrow nothing, and its holder see everything.
        must(
            field in filters,
            f"no channel has a filter {field!r}; there are {', '.join(sorted(filters))}.",
        )
    if len(problems) > found:
        return None
    principal = Principal(
        key_id=table["id"],
        name=table["name"],
        scopes=frozenset(table["scopes"]),
        channels=tuple(channels),
        forced={field: frozenset(values) for field, values in forced.items()},
        expires_at=None if expires is None else expires.timestamp(),
    )
    return Entry(principal, table["sha256"])


def _fits(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _texts(value: Any) -> bool:
    """A list of one or more texts that say something."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(each, str) and each and each.isprintable() for each in value)
    )


def _write(path: Path, text: str, seen: bytes | None) -> None:
    """What was read is what is changed, or another's key would be lost."""
    try:
        content.write(path, text.encode(), seen)
    except content.ChangedMeanwhile:
        raise SettingsError(
            [f"{path} was changed by another at the same time; try again."]
        ) from None
    except OSError as error:
        raise SettingsError([f"keys: {path} can't be written: {error.strerror}."]) from error
