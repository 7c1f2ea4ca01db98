"""The table of settings: what each means, its unit, its bounds and the reason for its default.

The options of the command line and the reference page are made from `table()`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from marshmallow import validate

from telecast.config.kinds import KIB, KINDS, MIB, WRONG

PREFIX = "TELECAST_"


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """One line of the table. `least` and `most` are inclusive and in `unit`."""

    name: str = ""
    default: Any = None
    kind: str
    unit: str
    why: str
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return PREFIX + self.name.upper()

    @property
    def right(self) -> str:
        """What would be a right value, as the end of a sentence."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        said: str = KINDS[self.kind].said
        bounds = f" from {self.least:,.15g} to {self.most:,.15g}" if self.most is not None else ""
        return said + bounds + (f" ({self.unit})" if self.unit else "")

    @property
    def validators(self) -> list[validate.Validator]:
        found: list[validate.Validator] = []
        if self.choices:
            found.append(validate.OneOf(self.choices, error=WRONG))
        if self.most is not None:
            found.append(validate.Range(self.least, self.most, error=WRONG))
        return found


def _about(kind: str, unit: str, why: str, **bounds: Any) -> Mapping[str, About]:
    return {"about": About(kind=kind, unit=unit, why=why, **bounds)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be set, valid in itself and together.

    Sizes are in bytes, times in seconds; a relative path counts from where the service is started.
    """

    # where it listens and what it reads
    host: str = field(
        default="127.0.0.1",
        metadata=_about("text", "", "Address to listen on; off loopback it wants TLS or a proxy."),
    )
    port: int = field(
        default=8080,
        metadata=_about(
            "whole", "TCP port; 0: any that is free", "Port to listen on.", least=0, most=65535
        ),
    )
    journal: str = field(
        default="sqlite:telecast.db",
        metadata=_about("journal", "", "Where events are kept; memory forgets them at the end."),
    )
    keys: Path = field(
        default=Path("keys.toml"),
        metadata=_about(
            "place", "", "The keys file; `telecast keys new` makes it. Read again when it changes."
        ),
    )
    secret_file: Path = field(
        default=Path("telecast.secret"),
        metadata=_about(
            "place", "", "Signs browser sessions; made at the first start, for this user's eyes."
        ),
    )
    config: Path | None = field(
        default=None, metadata=_about("present_file", "", "A TOML file with any of these settings.")
    )
    tls_cert: Path | None = field(
        default=None,
        metadata=_about("present_file", "", "Certificate chain (PEM) to serve TLS with."),
    )
    tls_key: Path | None = field(
        default=None, metadata=_about("present_file", "", "Private key (PEM) of the certificate.")
    )
    behind_proxy: bool = field(
        default=False,
        metadata=_about(
            "switch", "", "A proxy in front ends TLS and its X-Forwarded-For is to be believed."
        ),
    )
    allowed_origins: tuple[str, ...] = field(
        default=(),
        metadata=_about(
            "origins", "", "Other origins whose pages may connect; our own always may."
        ),
    )
    # what it says
    log_format: str = field(
        default="auto",
        metadata=_about(
            "word",
            "",
            "How to log; auto is text on a terminal and JSON elsewhere.",
            choices=("auto", "json", "text"),
        ),
    )
    log_level: str = field(
        default="info",
        metadata=_about(
            "word",
            "",
            "The least severe that is logged.",
            choices=("debug", "info", "warning", "error"),
        ),
    )
    # who connects, and how many
    max_connections: int = field(
        default=10_000,
        metadata=_about(
            "whole",
            "connections",
            "An open one costs about 19 KiB and a file descriptor.",
            least=1,
            most=1_000_000,
        ),
    )
    max_connections_per_key: int = field(
        default=2_000,
        metadata=_about(
            "whole",
            "connections",
            "One key that runs wild must not lock the others out.",
            least=1,
            most=1_000_000,
        ),
    )
    max_connections_per_address: int = field(
        default=2_000,
        metadata=_about(
            "whole",
            "connections",
            "Nor one host; behind a NAT many users share one.",
            least=1,
            most=1_000_000,
        ),
    )
    new_connections_per_second: int = field(
        default=2_000,
        metadata=_about(
            "whole",
            "streams a second",
            "After a restart all come back together; this spreads them.",
            least=1,
            most=100_000,
        ),
    )
    new_connections_burst: int = field(
        default=5_000,
        metadata=_about(
            "whole",
            "streams at once",
            "So many come back without being sent away again.",
            least=1,
            most=1_000_000,
        ),
    )
    max_sockets: int = field(
        default=0,
        metadata=_about(
            "whole",
            "sockets; 0: what the limit of open files leaves",
            "All that is connected, streams or not; beyond it a newcomer is closed unheard.",
            least=0,
            most=10_000_000,
        ),
    )
    # what one connection may ask
    max_channels: int = field(
        default=32,
        metadata=_about(
            "whole",
            "channels a connection",
            "Eight times what there are; bounds a selection.",
            least=1,
            most=1_000,
        ),
    )
    max_filter_values: int = field(
        default=256,
        metadata=_about(
            "whole",
            "values a selection",
            "Each is looked up for every event of its channel.",
            least=1,
            most=10_000,
        ),
    )
    max_frame_bytes: int = field(
        default=64 * KIB,
        metadata=_about(
            "size",
            "bytes",
            "The largest WebSocket message taken; an event fits in with room.",
            least=KIB,
            most=16 * MIB,
        ),
    )
    actions_per_second: float = field(
        default=10.0,
        metadata=_about(
            "number",
            "actions a second",
            "A person and a bot ask less; each may cost a snapshot.",
            least=0.1,
            most=10_000,
        ),
    )
    actions_burst: int = field(
        default=40,
        metadata=_about(
            "whole",
            "actions at once",
            "A desktop that opens all its windows.",
            least=1,
            most=10_000,
        ),
    )
    publishes_per_second: float = field(
        default=2_000.0,
        metadata=_about(
            "number",
            "events a second a connection",
            "One feed must leave room for the others.",
            least=0.1,
            most=1_000_000,
        ),
    )
    # what one publish may bring, and what may wait
    max_body_bytes: int = field(
        default=8 * MIB,
        metadata=_about(
            "size",
            "bytes",
            "The largest request body; it is held in memory while it is validated.",
            least=KIB,
            most=1024 * MIB,
        ),
    )
    max_batch_events: int = field(
        default=4_096,
        metadata=_about(
            "whole",
            "events",
            "A batch commits as one; seq numbering has 4,096 places for it.",
            least=1,
            most=4_096,
        ),
    )
    max_event_bytes: int = field(
        default=32 * KIB,
        metadata=_about(
            "size",
            "bytes",
            "The largest event; every receiver must be able to hold it.",
            least=256,
            most=MIB,
        ),
    )
    backlog_events: int = field(
        default=20_000,
        metadata=_about(
            "whole",
            "events",
            "Waiting for the journal; beyond it publishers are told 503 and when to return.",
            least=1,
            most=10_000_000,
        ),
    )
    backlog_bytes: int = field(
        default=64 * MIB,
        metadata=_about("size", "bytes", "The same in memory.", least=MIB, most=16 * 1024 * MIB),
    )
    # what is remembered for those who come back
    tape_events: int = field(
        default=50_000,
        metadata=_about(
            "whole",
            "events a channel",
            "Resumes this far back are served without touching the journal.",
            least=1,
            most=10_000_000,
        ),
    )
    tape_bytes: int = field(
        default=32 * MIB,
        metadata=_about(
            "size",
            "bytes",
            "The same in memory, for each channel.",
            least=MIB,
            most=16 * 1024 * MIB,
        ),
    )
    # how long it waits
    stall_seconds: float = field(
        default=45.0,
        metadata=_about(
            "number",
            "seconds",
            "A socket that took no byte for so long is gone; slow but moving is not.",
            least=1,
            most=3600,
        ),
    )
    drain_seconds: float = field(
        default=5.0,
        metadata=_about(
            "number",
            "seconds",
            "At shutdown: for telling clients, committing what waits, closing.",
            least=0,
            most=300,
        ),
    )
    drain_notice: float = field(
        default=0.0,
        metadata=_about(
            "number",
            "seconds",
            "At shutdown: /readyz says no and the port stays open, so that a balancer sees it.",
            least=0,
            most=300,
        ),
    )
    first_byte_timeout: float = field(
        default=5.0,
        metadata=_about(
            "number",
            "seconds",
            "A new connection that has said nothing is closed; so is a TLS handshake.",
            least=0.1,
            most=3600,
        ),
    )
    head_timeout: float = field(
        default=10.0,
        metadata=_about(
            "number",
            "seconds",
            "For a request's head to arrive: who drips it holds a socket for nothing.",
            least=0.1,
            most=3600,
        ),
    )
    body_timeout: float = field(
        default=30.0,
        metadata=_about("number", "seconds", "For a request's body to arrive.", least=1, most=3600),
    )


def table() -> tuple[About, ...]:
    """Every setting in order: name, flag, variable, default, unit, reason, bounds."""
    return tuple(
        dataclasses.replace(each.metadata["about"], name=each.name, default=each.default)
        for each in dataclasses.fields(Settings)
    )
