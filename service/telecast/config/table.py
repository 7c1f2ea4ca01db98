"""The table of settings: what each means, its unit, its bounds and the reason for its default.

The options of the command line and the reference page are made from `table()`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from telecast.config.about import About
from telecast.config.kinds import KIB, MIB


def _setting(default: Any, kind: str, why: str, unit: str = "", **bounds: Any) -> Any:
    """A field of Settings with its line of the table."""
    about = About(kind=kind, unit=unit, why=why, **bounds)
    return field(default=default, metadata={"about": about})


def _whole(default: int, least: int, most: int, unit: str, why: str) -> Any:
    return _setting(default, "whole", why, unit, least=least, most=most)


def _size(default: int, least: int, most: int, why: str) -> Any:
    return _setting(default, "size", why, "bytes", least=least, most=most)


def _number(default: float, least: float, most: float, why: str, unit: str = "seconds") -> Any:
    return _setting(default, "number", why, unit, least=least, most=most)


def _word(default: str, choices: tuple[str, ...], why: str) -> Any:
    return _setting(default, "word", why, choices=choices)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be set, valid in itself and together.

    Sizes are in bytes, times in seconds; a relative path counts from where the service is started.
    """

    # where it listens and what it reads
    host: tuple[str, ...] = _setting(
        ("127.0.0.1",),
        "hosts",
        "Addresses to listen on; `::` is IPv6 and IPv4. Off loopback it needs TLS or behind_proxy.",
    )
    port: int = _whole(8080, 0, 65535, "TCP port; 0: any that is free", "Port to listen on.")
    workers: int = _whole(
        1,
        1,
        64,
        "processes",
        "Processes on the same port, each a node of a nats:// journal. 1: one, with any journal.",
    )
    journal: str = _setting(
        "sqlite:telecast.db",
        "journal",
        "Where events are kept. `memory:` forgets them when the service stops.",
    )
    memory_history: int = _size(
        64 * MIB,
        MIB,
        64 * 1024 * MIB,
        "With memory: the history kept of all channels together, beside the newest rows.",
    )
    journal_copy: Path = _setting(
        Path("telecast-copy.db"),
        "place",
        "With a nats:// journal: this node's own copy of it. The log makes it anew if it is lost. "
        "With workers each has its number in the name: telecast-copy-1.db.",
    )
    replicas: int = _whole(
        1,
        1,
        5,
        "servers",
        "With a nats:// journal that is not there yet: how many NATS servers keep it. 1 loses "
        "whatever its server loses; 3 outlives one of them.",
    )
    checkpoint_bytes: int = _size(
        64 * MIB,
        64 * KIB,
        64 * 1024 * MIB,
        "With a nats:// journal: a checkpoint is made after so many bytes of messages, each "
        "counted with 1 KiB more, or as many as the copy is large; older messages then go.",
    )
    nats_creds: Path | None = _setting(
        None, "present_file", "Credentials file for the NATS servers."
    )
    nats_user: str | None = _setting(None, "text", "User name for the NATS servers.")
    nats_password_file: Path | None = _setting(
        None, "present_file", "A file with the password of that user, and nothing else."
    )
    nats_ca: Path | None = _setting(
        None, "present_file", "Certificates (PEM) that the NATS servers' own are checked against."
    )
    nats_cert: Path | None = _setting(
        None, "present_file", "Certificate (PEM) that this node shows to the NATS servers."
    )
    nats_key: Path | None = _setting(None, "present_file", "Private key (PEM) of that certificate.")
    keys: Path = _setting(
        Path("keys.toml"),
        "place",
        "The keys file. `telecast keys new` makes it; the service reads it again when it changes.",
    )
    secret_file: Path = _setting(
        Path("telecast.secret"),
        "place",
        "Signs browser sessions. The first start makes it; only this user can read it.",
    )
    channels: Path | None = _setting(
        None,
        "present_file",
        "Channels of your own: a TOML file. `telecast channels new NAME` prints one.",
    )
    config: Path | None = _setting(None, "present_file", "A TOML file with any of these settings.")
    tls_cert: Path | None = _setting(
        None, "present_file", "Certificate chain (PEM) to serve TLS with."
    )
    tls_key: Path | None = _setting(None, "present_file", "Private key (PEM) of the certificate.")
    behind_proxy: bool = _setting(
        False, "switch", "A proxy in front ends TLS; its X-Forwarded-For is trusted."
    )
    path_prefix: str = _setting(
        "", "prefix", "The path under which a proxy shows the service, such as /telemetry."
    )
    allowed_origins: tuple[str, ...] = _setting(
        (), "origins", "Other web origins whose pages may connect. The service's own always may."
    )
    frame_ancestors: tuple[str, ...] = _setting(
        (), "origins", "Other web origins whose pages may show the page in a frame."
    )
    # what it says
    log_format: str = _word(
        "auto",
        ("auto", "json", "text"),
        "Format of the log. `auto` is text on a terminal and JSON elsewhere.",
    )
    log_level: str = _word(
        "info", ("debug", "info", "warning", "error"), "The least severe level that is logged."
    )
    # who connects, and how many
    max_connections: int = _whole(
        10_000,
        1,
        1_000_000,
        "connections",
        "Open streams. Each costs a file descriptor and 5 to 14 KiB.",
    )
    max_connections_per_key: int = _whole(
        2_000,
        1,
        1_000_000,
        "connections",
        "Open streams of one key, so that one key can not lock out the others.",
    )
    max_connections_per_address: int = _whole(
        2_000,
        1,
        1_000_000,
        "connections",
        "Open streams of one address. Behind a NAT many users share one.",
    )
    max_consumers: int = _whole(
        10_000,
        1,
        1_000_000,
        "consumers",
        "Named clients whose acknowledged positions are kept. Each takes about 1 KB.",
    )
    max_consumers_per_key: int = _whole(
        1_000,
        1,
        1_000_000,
        "consumers",
        "The same for one key, so that one key can not use them up.",
    )
    new_connections_per_second: int = _whole(
        2_000,
        1,
        100_000,
        "streams a second",
        "New streams admitted. After a restart all come back together; this spreads them.",
    )
    new_connections_burst: int = _whole(
        5_000,
        1,
        1_000_000,
        "streams at once",
        "New streams that are admitted at once, before the rate above applies.",
    )
    max_sockets: int = _whole(
        0,
        0,
        10_000_000,
        "sockets; 0: what the limit of open files leaves",
        "All connections, streams or not. Beyond it a new connection is closed at once.",
    )
    # what one connection may ask
    max_channels: int = _whole(
        32, 1, 1_000, "channels a connection", "Channels that one connection may subscribe to."
    )
    max_filter_values: int = _whole(
        256,
        1,
        10_000,
        "values a selection",
        "Filter values of one connection. Each is looked up for every event of its channel.",
    )
    max_frame_bytes: int = _size(
        64 * KIB, KIB, 16 * MIB, "The largest WebSocket message that a client may send."
    )
    actions_per_second: float = _number(
        10.0,
        0.1,
        10_000,
        "Actions of one connection. Each may cost a snapshot.",
        "actions a second",
    )
    actions_burst: int = _whole(
        40,
        1,
        10_000,
        "actions at once",
        "Actions of one connection at once, such as a desktop that opens all its windows.",
    )
    publishes_per_second: float = _number(
        2_000.0,
        0.1,
        1_000_000,
        "Publishes of one WebSocket, so that one feed leaves room for the others.",
        "events a second a connection",
    )
    # what one publish may bring, and what may wait
    max_body_bytes: int = _size(
        8 * MIB,
        KIB,
        1024 * MIB,
        "The largest request body. It is held in memory while it is checked.",
    )
    bodies_bytes: int = _size(
        256 * MIB, MIB, 64 * 1024 * MIB, "Bytes of all request bodies that are being received."
    )
    bodies_bytes_per_key: int = _size(
        64 * MIB, MIB, 64 * 1024 * MIB, "The same of one key. At least one body always fits."
    )
    answers_bytes: int = _size(
        256 * MIB, MIB, 64 * 1024 * MIB, "Bytes of all answers that have not been read yet."
    )
    answers_bytes_per_key: int = _size(
        64 * MIB, 4 * MIB, 64 * 1024 * MIB, "The same of one key: some 25 of the largest pages."
    )
    max_batch_events: int = _whole(
        4_096, 1, 4_096, "events", "Events in one publish. They commit together."
    )
    max_event_bytes: int = _size(32 * KIB, 256, MIB, "The largest event, as JSON.")
    backlog_events: int = _whole(
        20_000,
        1,
        10_000_000,
        "events",
        "Events that wait for the journal. Beyond it a publish gets 503 with Retry-After.",
    )
    backlog_bytes: int = _size(
        64 * MIB, MIB, 16 * 1024 * MIB, "Bytes of the events that wait for the journal."
    )
    max_rows_per_channel: int = _whole(
        200_000,
        1,
        100_000_000,
        "rows",
        "Rows of a channel. A full one takes no new row (409 ROWS_EXHAUSTED), and every change.",
    )
    max_idempotency_keys_per_key: int = _whole(
        5_000_000,
        1,
        1_000_000_000,
        "idempotency keys",
        "Remembered for one key, for a day. Beyond it a new one gets 429 IDEMPOTENCY_EXHAUSTED.",
    )
    max_idempotency_keys: int = _whole(
        20_000_000,
        1,
        1_000_000_000,
        "idempotency keys",
        "Remembered for all keys together; one takes some 200 bytes of the journal's file.",
    )
    # what is remembered for those who come back
    tape_events: int = _whole(
        50_000,
        1,
        10_000_000,
        "events a channel",
        "Events kept in memory. A resume from this far back does not read the journal.",
    )
    tape_bytes: int = _size(
        32 * MIB, MIB, 16 * 1024 * MIB, "Bytes of the events kept in memory, for each channel."
    )
    # what it does by itself
    escalate_after: float = _number(
        300.0,
        0,
        604_800,
        "A critical alert that nobody has acknowledged for so long is escalated; 0: never.",
    )
    escalate_url: str | None = _setting(
        None, "web_address", "Where escalated alerts are sent to, signed; without it nowhere."
    )
    escalate_secret_file: Path | None = _setting(
        None, "present_file", "A file with the secret that signs them: whsec_ and base64."
    )
    escalate_inside: bool = _setting(
        False, "switch", "Whether the address may be one that is not public, such as 10.0.0.7."
    )
    # how long it waits
    stall_seconds: float = _number(
        45.0, 1, 3600, "A client whose socket takes no byte for this long is disconnected."
    )
    drain_seconds: float = _number(
        5.0, 0, 300, "At shutdown: the time over which the streams are ended."
    )
    drain_notice: float = _number(
        0.0,
        0,
        300,
        "At shutdown: how long /readyz answers 503 while the port stays open, for load balancers.",
    )
    first_byte_timeout: float = _number(
        5.0,
        0.1,
        3600,
        "A new connection that has sent nothing is closed after this; so is a TLS handshake.",
    )
    head_timeout: float = _number(10.0, 0.1, 3600, "The time for a request's head to arrive.")
    body_timeout: float = _number(30.0, 1, 3600, "The time for a request's body to arrive.")
    keepalive_timeout: float = _number(
        75.0,
        1,
        86_400,
        "An idle connection closes after this. Behind a balancer: longer than its own idle time.",
    )


def table() -> tuple[About, ...]:
    """Every setting in order: name, flag, variable, default, unit, reason, bounds."""
    return tuple(
        dataclasses.replace(each.metadata["about"], name=each.name, default=each.default)
        for each in dataclasses.fields(Settings)
    )
