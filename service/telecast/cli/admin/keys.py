"""`telecast keys`: who may connect. The running service takes changes up by itself."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import click
import orjson

from telecast.channel_file import read_catalogue
from telecast.channels.catalogue import Catalogue, nearest
from telecast.cli.admin.in_force import confirm, url_option
from telecast.cli.connection import key_option
from telecast.cli.output import note, show
from telecast.config import load_one
from telecast.errors import SettingsError
from telecast.keys import create_key, list_keys, revoke_key
from telecast.model import SCOPES, Principal

_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


class Expiry(click.ParamType[datetime]):
    """`90d`, `12h`, `2w` from now, or a time with its zone (RFC 3339)."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        now = datetime.now(UTC).replace(microsecond=0)
        try:
            if match := re.fullmatch(r"([0-9]{1,5})([hdw])", str(value), re.ASCII):
                moment = now + int(match[1]) * _UNITS[match[2]]
            else:
                moment = datetime.fromisoformat(str(value))
            if moment.tzinfo is not None:
                moment = moment.astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no time: write 90d, 12h or 2027-01-01T00:00:00Z.", param, ctx)
        if moment.tzinfo is None:
            self.fail(f"{value!r} lacks its zone: write 2027-01-01T00:00:00Z.", param, ctx)
        if moment <= now:
            self.fail(f"{value!r} is over already.", param, ctx)
        return moment


class Forced(click.ParamType[tuple[str, str]]):
    """`field=value`; the same field again adds a value."""

    name = "field=value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        field, equals, wanted = str(value).partition("=")
        if not (field and equals and wanted):
            self.fail(f"{value!r} does not read field=value, such as traderId=t1.", param, ctx)
        return field, wanted


keys_file = click.option(
    "--keys",
    "flag",
    metavar="FILE",
    help="The keys file.  [TELECAST_KEYS; default: keys.toml]",
)


def _file(flag: str | None) -> Path:
    path: Path = load_one("keys", {"keys": flag})
    return path


def _catalogue() -> Catalogue:
    """The channels that the service has, as TELECAST_CHANNELS or TELECAST_CONFIG name them."""
    return read_catalogue(load_one("channels", {}))


@click.group(name="keys")
def command() -> None:
    """Make, list and revoke the keys that clients connect with."""


@command.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice(SCOPES),
    help="What the key may do; repeat for more.",
)
@click.option(
    "--channel",
    "channels",
    multiple=True,
    metavar="GLOB",
    default=("*",),
    help="Channels that it reaches, such as risk-*; repeat for more. All, unless given.",
)
@click.option(
    "--filter",
    "filters",
    multiple=True,
    type=Forced(),
    help="Forced on all that it sees and publishes, such as traderId=t1; repeat for more.",
)
@click.option("--expires", type=Expiry(), help="When it ends: 90d, 12h, 2027-01-01T00:00:00Z.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Write the key to this new file, for you alone, in place of printing it.",
)
@url_option
@keys_file
def new(
    name: str,
    scopes: tuple[str, ...],
    channels: tuple[str, ...],
    filters: tuple[tuple[str, str], ...],
    expires: datetime | None,
    out: str | None,
    url: str | None,
    flag: str | None,
) -> None:
    """Make a key and print it, once: the file keeps only its hash."""
    path = _file(flag)
    if out is not None and os.path.lexists(out):
        raise SettingsError([f"{out} is there already, and is not overwritten: name a new file."])
    forced: dict[str, list[str]] = {}
    for field, value in filters:
        forced.setdefault(field, []).append(value)
    catalogue = _catalogue()
    for glob in channels:
        if not any(fnmatchcase(each, glob) for each in catalogue):
            note(f"Warning: no channel matches {glob!r}.{nearest(glob, catalogue)}")
    secret = create_key(
        path,
        name,
        scopes,
        channels=channels,
        expires=expires,
        forced=forced,
        filters=catalogue.filters,
    )
    if out is None:
        show(secret)
    else:
        _keep(out, secret)
    until = f" until {_moment(expires.timestamp())}" if expires else ""
    note(f"{name} may {', '.join(scopes)}{until}; its hash is in {path}.")
    if out is None:
        note("This is the only time that the key is shown: store it now.")
    else:
        note(f"The key is in {out}, which only you can read.")
    if url is not None:
        confirm(url, secret, "api/v1/channels", lambda status: status != 401)


@command.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="As a JSON array.")
@keys_file
def list_(as_json: bool, flag: str | None) -> None:
    """Show every key and its rights; never the key itself."""
    now = datetime.now(UTC).timestamp()
    rows = [
        _row(principal, now) for principal in list_keys(_file(flag), filters=_catalogue().filters)
    ]
    if as_json:
        show(orjson.dumps(rows, option=orjson.OPT_INDENT_2))
        return
    if not rows:
        note("There are no keys. `telecast keys new NAME --scope read` makes one.")
        return
    cells = [["ID", "NAME", "SCOPES", "CHANNELS", "EXPIRES", "FILTER"]]
    cells += [_cells(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        show("  ".join(padded).rstrip())


@command.command()
@click.argument("id_or_name", metavar="ID|NAME")
@url_option
@key_option
@keys_file
def revoke(id_or_name: str, url: str | None, key: str | None, flag: str | None) -> None:
    """End a key; the service closes its connections when it reads the file again.

    With --url the command waits until that service refuses the key, and fails if it does not:
    it needs a key with the scope admin to ask.
    """
    path = _file(flag)
    gone = revoke_key(path, id_or_name, filters=_catalogue().filters)
    note(f"{gone.name} ({gone.key_id}) is revoked in {path}.")
    if url is not None:
        confirm(url, key, f"api/v1/keys/{gone.key_id}", lambda status: status == 404)


def _keep(out: str, secret: str) -> None:
    try:
        handle = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(f"{secret}\n")
    except OSError as error:
        show(secret)  # it is made, and kept nowhere: it must not be lost with the disk
        raise SettingsError(
            [f"{out} can't be written ({error.strerror}): the key is printed instead."]
        ) from error


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")[:-6] + "Z"


def _row(principal: Principal, now: float) -> dict[str, Any]:
    return {
        "id": principal.key_id,
        "name": principal.name,
        "scopes": [scope for scope in SCOPES if scope in principal.scopes],
        "channels": list(principal.channels),
        "expires": None if principal.expires_at is None else _moment(principal.expires_at),
        "expired": principal.expired(now),
        "filter": {field: sorted(values) for field, values in sorted(principal.forced.items())},
    }


def _cells(row: dict[str, Any]) -> list[str]:
    expires = row["expires"] or "never"
    return [
        row["id"],
        row["name"],
        ",".join(row["scopes"]),
        ",".join(row["channels"]),
        f"{expires} (over)" if row["expired"] else expires,
        " ".join(f"{field}={','.join(values)}" for field, values in row["filter"].items()) or "-",
    ]
