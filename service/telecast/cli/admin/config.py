"""telecast config: what is set, where that comes from, and whether it is right."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
import orjson

from telecast.cli.output import note, plain, show
from telecast.cli.readable import table as columns
from telecast.config import About, explained, load_settings, table

config_file = click.option(
    "--config",
    metavar="FILE",
    help="The TOML file of settings.  [TELECAST_CONFIG]",
)


@click.group(name="config")
def command() -> None:
    """Check and show the settings, as `telecast serve` would read them."""


@command.command()
@config_file
def check(config: str | None) -> None:
    """Say whether the settings are right: every mistake at once, with its source."""
    load_settings({"config": config})
    note("The settings are right.")


@command.command(name="show")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--changed", is_flag=True, help="Only those that are not the default.")
@config_file
def show_(as_json: bool, changed: bool, config: str | None) -> None:
    """Show each setting, its value, and its source. Passwords in addresses are masked."""
    found = [
        (about.name, _shown(value, web=about.kind == "web_address"), source)
        for about, value, source in explained({"config": config})
        if not changed or source != "default"
    ]
    if as_json:
        rows = [{"name": name, "value": value, "source": source} for name, value, source in found]
        show(orjson.dumps(rows, option=orjson.OPT_INDENT_2))
        return
    cells = [["SETTING", "VALUE", "SOURCE"]]
    cells += [[name, plain(value) or "-", plain(source)] for name, value, source in found]
    for line in columns(cells):
        show(line)


@command.command()
@config_file
def env(config: str | None) -> None:
    """Print what is not the default as lines for an environment file."""
    for about, value, source in explained({"config": config}):
        if source != "default" and about.name != "config":
            show(f"{about.variable}={_quoted(_text(value))}")


@command.command()
@click.argument("name", required=False)
def doc(name: str | None) -> None:
    """Explain a setting by its NAME, flag or variable; without one, all of them."""
    found = [about for about in table() if name is None or _is(about, name)]
    if not found:
        raise click.UsageError(
            f"There is no setting {name!r}. `telecast config doc` lists them all."
        )
    for about in found:
        show(f"{about.name}  {about.flag}  {about.variable}")
        show(f"    {about.why}")
        show(f"    Right: {about.right}. Default: {_shown(about.default) or 'none'}.")


def _is(about: About, name: str) -> bool:
    return name in (about.name, about.flag, about.variable) or name == about.flag.lstrip("-")


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value)


def _shown(value: Any, *, web: bool = False) -> str:
    text = str(value) if isinstance(value, Path) else _text(value)
    if web:
        # Many receivers have a secret in the path.
        return re.sub(r"^(https?://[^/?]+)[/?].+", r"\1/...", text)
    return re.sub(r"://[^/@\s]*@", "://...@", text)


def _quoted(text: str) -> str:
    if re.fullmatch(r"[\w./:,@%+-]*", text, re.ASCII):
        return text
    return "'" + text.replace("'", "'\\''") + "'"
