"""python -m bench: measure Telecast beside its peers on this machine."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path

import click

from bench import plots, report
from bench.build import NoCompiler, compiler
from bench.case import Options
from bench.machine import Cores, description, raise_open_files
from bench.peers import PEERS
from bench.peers.base import Peer
from bench.rows import ROWS
from bench.run import Outcome, outcomes_of, run_row
from telecast import __version__

RESULTS = Path(__file__).parent / "results"
DOCS = Path(__file__).parents[1] / "docs"


def _chosen(names: str | None) -> tuple[Peer, ...]:
    """`telecast` means all that begin so: the same server fed in other ways."""
    if names is None:
        return tuple(PEERS.values())
    found = []
    for name in names.split(","):
        several = [p for p in PEERS.values() if p.name == name or p.name.startswith(f"{name}-")]
        if not several:
            raise click.BadParameter(f"{name!r} is none of {', '.join(PEERS)}.")
        found += [peer for peer in several if peer not in found]
    return tuple(found)


@click.command()
@click.option("--rows", help=f"Which of {','.join(ROWS)}; all unless given.")
@click.option("--peers", help=f"Which of {','.join(PEERS)}; all unless given.")
@click.option("--transports", default="ws,sse", show_default=True)
@click.option("--reps", type=click.IntRange(1), help="Repetitions.  [default: 3; --quick: 1]")
@click.option("--quick", is_flag=True, help="Shorter runs: to see that it works, not to quote.")
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
@click.option("--docs", is_flag=True, help="Make docs/bench-results.md and its pictures of it too.")
@click.option("--nice", type=click.IntRange(-5, 19), default=0, help="Priority of all that runs.")
def main(
    rows: str | None,
    peers: str | None,
    transports: str,
    reps: int | None,
    quick: bool,
    out: Path,
    docs: bool,
    nice: int,
) -> None:
    """Measure Telecast beside its peers; results.md, results.json and pictures go into --out."""
    wanted = rows.split(",") if rows else list(ROWS)
    for name in wanted:
        if name not in ROWS:
            raise click.BadParameter(f"{name!r} is none of {', '.join(ROWS)}.")
    options = Options(peers=_chosen(peers), transports=tuple(transports.split(",")), quick=quick)
    try:
        compiler()
    except NoCompiler as fault:
        raise click.ClickException(str(fault)) from None
    if nice:
        with contextlib.suppress(PermissionError):
            os.nice(nice)
    cores, files = Cores(), raise_open_files()
    about = {
        **description(),
        "telecast": __version__,
        "open files": files,
        "begun": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "repetitions": reps or (1 if quick else 3),
    }
    began = time.monotonic()
    if not cores.apart:
        about["warning"] = "server and load share one core: figures are of little use"
    results: dict[str, tuple[report.Row, list[Outcome]]] = {}
    try:
        for name in wanted:
            row = ROWS[name]
            results[name] = row, outcomes_of(row, options)
            run_row(*results[name], about["repetitions"], cores, click.echo)
    except KeyboardInterrupt:
        click.echo("Stopped: what was measured until now is written.", err=True)
    finally:
        about["minutes"] = round((time.monotonic() - began) / 60, 1)
        report.write(results, about, out)
    titles = {name: peer.title for name, peer in PEERS.items()}
    reported = {
        name: [each.reported() for each in outcomes] for name, (_, outcomes) in results.items()
    }
    try:
        plots.draw(reported, out, titles)
        if docs:
            pictures = plots.draw(reported, DOCS / "images", titles)
            report.publish(results, about, DOCS, pictures)
    except ImportError:
        click.echo("No pictures: pip install matplotlib.", err=True)
    for row, outcomes in results.values():
        click.echo("\n".join(["", row.title, "", *report.table(row, outcomes)]))
    sys.exit(_exit_code({name: found for name, (_, found) in results.items()}))


def _exit_code(results: dict[str, list[Outcome]]) -> int:
    """1 where a case broke off, or nothing was measured of a row that was asked for."""
    empty = [name for name, found in results.items() if found and not any(o.runs for o in found)]
    for name in empty:
        click.echo(f"{name}: {' '.join(report.unmeasured(results[name]))}", err=True)
    broken = any(o.failure and o.runs for found in results.values() for o in found)
    return 1 if broken or empty else 0


if __name__ == "__main__":
    main()
