"""Where the log is and how to get in: `nats://host:4222,host:4222/NAME`, and what is secret.

The address goes into logs and messages, so no secret may stand in it.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from pathlib import Path

from telecast.errors import SettingsError

_FORM = re.compile(r"(nats|tls)://([^/@?#\s]+)/([A-Za-z0-9_-]{1,32})", re.ASCII)
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?", re.ASCII)
FORM = "nats://HOST:4222[,HOST:4222]/NAME"


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What the servers ask for. `creds` is a credentials file; `user` has the password that is all
    of `password_file`."""

    creds: Path | None = None
    user: str | None = None
    password_file: Path | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def password(self) -> str | None:
        """Raises SettingsError."""
        if self.password_file is None:
            return None
        try:
            return self.password_file.read_text("utf-8").strip()
        except (OSError, ValueError) as error:
            raise SettingsError(
                [f"nats_password_file: {self.password_file} can't be read ({error})."]
            ) from error

    def credentials(self) -> str | None:
        """What is in the credentials file. Raises SettingsError: of a file without both of its
        parts, as one that is just being written, nats-py looks for the first one for ever."""
        if self.creds is None:
            return None
        try:
            text = self.creds.read_text("utf-8")
        except (OSError, ValueError) as error:
            raise SettingsError([f"nats_creds: {self.creds} can't be read ({error})."]) from error
        for part in ("BEGIN NATS USER JWT", "BEGIN USER NKEY SEED"):
            if part not in text:
                raise SettingsError(
                    [f"nats_creds: {self.creds} has no line `{part}`: give a credentials file."]
                )
        return text

    def tls(self) -> ssl.SSLContext | None:
        """The client's side of TLS, None where no setting asks for any. Raises SettingsError."""
        if self.ca is None and self.cert is None:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.cert is not None:
                context.load_cert_chain(self.cert, self.key, password=_no_password)
        except (OSError, ValueError) as error:
            raise SettingsError(
                [f"The TLS files for the NATS servers can't be used: {error}."]
            ) from error
        return context


def _no_password() -> str:
    raise ValueError("the key is encrypted; give one that is not, readable by the service only")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOptions:
    """What one node needs beside the log's address: the path of its copy, how many servers keep a
    log that it makes, after how many bytes of messages a checkpoint is due, how many bytes an event
    may have, and how it gets in."""

    copy: Path = Path("telecast-copy.db")
    replicas: int = 1
    checkpoint_bytes: int = 64 * 2**20
    largest_event: int = 0
    access: Access = Access()


@dataclass(frozen=True, slots=True)
class Address:
    """`servers` are URLs; `name` is the stream's."""

    servers: tuple[str, ...]
    name: str

    def __str__(self) -> str:
        hosts = ",".join(server.partition("://")[2] for server in self.servers)
        return f"{self.servers[0].partition('://')[0]}://{hosts}/{self.name}"


def parse_address(url: str) -> Address:
    """Raises SettingsError, which never quotes what may be a password."""
    if "@" in url:
        raise SettingsError(
            [
                "journal: an address with a user and a password would end up in logs. Write "
                f"{FORM}, and set nats_user and nats_password_file, or nats_creds."
            ]
        )
    found = _FORM.fullmatch(url)
    hosts = found[2].split(",") if found else []
    if not found or not all(_HOST.fullmatch(host) for host in hosts):
        raise SettingsError([f"journal: {url[:100]!r} does not read {FORM}."])
    return Address(tuple(f"{found[1]}://{host}" for host in hosts), found[3])
