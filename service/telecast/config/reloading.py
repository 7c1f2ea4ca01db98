"""Which settings can change while the service runs, and what holds after they were read again."""

from __future__ import annotations

import dataclasses

from telecast.config.table import Settings

RELOADABLE = frozenset(
    {
        "log_level",
        "max_connections",
        "max_connections_per_key",
        "max_connections_per_address",
        "max_channels",
        "max_filter_values",
        "max_frame_bytes",
        "actions_per_second",
        "actions_burst",
        "publishes_per_second",
        "max_body_bytes",
        "body_timeout",
        "drain_seconds",
        "escalate_after",
        "frame_ancestors",
        "tls_cert",
        "tls_key",
    }
)
"""Settings that hold from SIGHUP on: for new connections and requests, not for open streams."""
PARENTS = frozenset({"host", "port", "workers", "journal", "log_format"})
"""Settings that a rolling restart leaves alone: all workers must have the same, all the time."""


@dataclasses.dataclass(frozen=True, slots=True)
class Reread:
    """`settings` hold from now on; `changed` and `kept` are the names of those that differ."""

    settings: Settings
    changed: list[str]
    kept: list[str]


def reread(before: Settings, wanted: Settings, *, all_but: frozenset[str] | None = None) -> Reread:
    """Take over what can change: what is RELOADABLE, or all but some. Both are right together."""
    names = [each.name for each in dataclasses.fields(Settings)]
    differ = [name for name in names if getattr(wanted, name) != getattr(before, name)]
    if all_but is None:
        now = [name for name in differ if name in RELOADABLE]
    else:
        now = [name for name in differ if name not in all_but]
    taken = {name: getattr(wanted, name) for name in now}
    return Reread(
        dataclasses.replace(before, **taken), now, [name for name in differ if name not in now]
    )
