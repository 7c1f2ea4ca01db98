"""The command `telecast`. A subcommand is a module with a `command`, and a line in COMMANDS."""

from __future__ import annotations

import click

from telecast import __version__
from telecast.cli.lazy import Lazy, LazyGroup

COMMANDS = {
    "serve": Lazy("telecast.cli.run.serve", "Run the service."),
    "demo": Lazy("telecast.cli.run.demo", "Run it on loopback with its own key and a live market."),
    "keys": Lazy(
        "telecast.cli.admin.keys", "Make, list and revoke the keys that clients connect with."
    ),
    "journal": Lazy("telecast.cli.admin.journal", "Look after the journal's file."),
    "tail": Lazy("telecast.cli.data.tail", "Follow channels, through drops and restarts."),
    "pub": Lazy("telecast.cli.data.pub", "Publish JSON or NDJSON to a channel."),
    "replay": Lazy("telecast.cli.data.replay", "Publish a recording at its own pace, or another."),
    "record": Lazy("telecast.cli.data.record", "Write what comes to a file, for replay."),
    "channels": Lazy("telecast.cli.data.channels", "List the channels."),
    "types": Lazy("telecast.cli.data.types", "Print types of the rows for TypeScript or Python."),
    "snapshot": Lazy("telecast.cli.data.snapshot", "Print a channel's rows as they are now."),
    "history": Lazy("telecast.cli.data.history", "Print a channel's events between two times."),
    "status": Lazy("telecast.cli.admin.status", "Say how the service is, at one glance."),
    "cluster": Lazy("telecast.cli.admin.cluster", "Say how all nodes of a journal are."),
    "clients": Lazy("telecast.cli.admin.clients", "List who is connected, and how far behind."),
    "consumers": Lazy(
        "telecast.cli.admin.consumers", "List how far named clients have acknowledged."
    ),
    "kick": Lazy("telecast.cli.admin.kick", "End connections; they may come back."),
    "top": Lazy("telecast.cli.admin.top", "Watch the connections, and end one."),
    "ack": Lazy("telecast.cli.admin.ack", "Acknowledge a risk alert."),
    "audit": Lazy("telecast.cli.admin.audit", "Show who did what."),
    "config": Lazy("telecast.cli.admin.config", "Check and show the settings."),
    "errors": Lazy("telecast.cli.admin.errors", "Explain an error code."),
    "doctor": Lazy("telecast.cli.admin.doctor", "Try a service from here, and name what is wrong."),
    "bench": Lazy("telecast.cli.run.bench", "Measure a running service from here."),
}


@click.group(cls=LazyGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="telecast")
def main() -> None:
    """Real-time telemetry for trading systems, over WebSocket and Server-Sent Events.

    Exit codes: 0 done, 1 error, 2 wrong usage, 3 key refused, 4 nobody answers, 5 what --strict
    watches for has happened.
    """
