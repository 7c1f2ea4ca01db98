"""telecast errors: what a code means and what to do."""

from __future__ import annotations

import difflib

import click
import orjson

from telecast.cli.output import show
from telecast.cli.readable import table
from telecast.errors import CODES

NEAR = 0.5
"""How much alike a word and a code must be for the one to be taken for the other."""


@click.command(name="errors")
@click.argument("code", required=False)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(code: str | None, as_json: bool) -> None:
    """Explain an error CODE, or list all. An HTTP status or a close code finds its codes too."""
    wanted = (code or "").upper().replace("-", "_")
    found = {
        str(name): rule
        for name, rule in CODES.items()
        if wanted in ("", str(name), str(rule.http), str(rule.close))
    }
    if not found:
        raise click.UsageError(f"There is no code {code!r}.{_near(wanted)}")
    if as_json:
        for name, rule in found.items():
            body = {"code": name, "http": rule.http, "close": rule.close}
            show(orjson.dumps({**body, "retryable": rule.retryable, "advice": rule.advice}))
        return
    cells = [["CODE", "HTTP", "CLOSE", "AGAIN", "WHAT TO DO"]]
    cells += [
        [
            name,
            str(rule.http),
            "-" if rule.close is None else str(rule.close),
            "yes" if rule.retryable else "no",
            rule.advice,
        ]
        for name, rule in found.items()
    ]
    for line in table(cells):
        show(line)


def _near(wanted: str) -> str:
    names = {str(name).lower(): str(name) for name in CODES}
    found = difflib.get_close_matches(wanted.lower(), names, n=1, cutoff=NEAR)
    listed = "`telecast errors` lists all."
    return f" Did you mean {names[found[0]]!r}? {listed}" if found else f" {listed}"
