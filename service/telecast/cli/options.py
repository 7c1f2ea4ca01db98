"""The options of a command, made from the table of settings."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import click

from telecast.config import About, load_one, table
from telecast.journal.jetstream.address import Access

Command = Callable[..., Any]

ACCESS = (
    "nats_creds",
    "nats_user",
    "nats_password_file",
    "nats_ca",
    "nats_cert",
    "nats_key",
)
"""The settings that say how one gets in to the NATS servers."""


def access_from(flags: Mapping[str, Any]) -> Access:
    """From a command's flags and the environment."""
    given = {name: load_one(name, flags) for name in ACCESS}
    return Access(**{name.removeprefix("nats_"): value for name, value in given.items()})


def settings_options(*, only: Collection[str] | None = None) -> Callable[[Command], Command]:
    """Give the command an option for each setting, or for those in `only`.

    They arrive as keyword arguments by name, unparsed, None where not given: just what
    `load_settings(flags)` takes. That parses them, so that all mistakes are reported at once.
    """

    def decorate(command: Command) -> Command:
        for about in reversed(table()):
            if only is None or about.name in only:
                command = _option(about)(command)
        return command

    return decorate


def _option(about: About) -> Callable[[Command], Command]:
    notes = [about.variable]
    if about.default not in (None, (), False):
        notes.append(f"default: {about.shown_default}")
    if about.unit:
        notes.append(about.unit)
    text = f"{about.why}  [{'; '.join(notes)}]"
    if about.kind == "switch":
        return click.option(f"{about.flag}/--no-{about.flag[2:]}", default=None, help=text)
    metavar = "|".join(about.choices) or about.kind.removeprefix("present_").upper()
    if about.kind in ("origins", "hosts"):
        return click.option(about.flag, multiple=True, metavar=about.kind[:-1].upper(), help=text)
    return click.option(about.flag, type=str, default=None, metavar=metavar, help=text)
