"""The results as Markdown for people and JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.case import Column, Row
from bench.run import Outcome

Results = Mapping[str, tuple[Row, Sequence[Outcome]]]


def write(results: Results, about: Mapping[str, Any], folder: Path) -> None:
    """results.md and results.json, whole."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.md").write_text(page(results, about), "utf-8")
    rows = {name: [each.reported() for each in outcomes] for name, (_, outcomes) in results.items()}
    text = json.dumps({"about": about, "rows": rows}, indent=1)
    (folder / "results.json").write_text(text, "utf-8")


def publish(
    results: Results, about: Mapping[str, Any], docs: Path, pictures: Sequence[Path]
) -> None:
    """The page for the documentation, with the pictures that are there."""
    shown = [path for path in pictures if path.suffix == ".svg"]
    images = [f"![{path.stem}](images/{path.name})" for path in shown]
    text = page(results, about) + "\n" + "\n\n".join(["## Pictures", *images]) + "\n"
    (docs / "bench-results.md").write_text(text, "utf-8")


def page(results: Results, about: Mapping[str, Any]) -> str:
    lines = ["# Measured", ""]
    lines += ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in about.items())]
    lines += ["", "Figures are medians, the least and the most of the repetitions behind them."]
    for row, outcomes in results.values():
        lines += ["", f"## {row.title}", "", *table(row, outcomes)]
    return "\n".join(lines) + "\n"


def table(row: Row, outcomes: Sequence[Outcome]) -> list[str]:
    """A line for each case; what could not be measured says why. Where that is all, it is no
    table: an empty one would look like a result."""
    if not any(outcome.runs for outcome in outcomes):
        return unmeasured(outcomes)
    ratio = any(column.at == "cpu_us" for column in row.columns) and any(
        outcome.case.peer.name == "floor" and outcome.runs for outcome in outcomes
    )
    titles = ["server", *(column.title for column in row.columns)]
    titles += ["CPU against the C loop"] * ratio + ["marks"]
    lines = ["| " + " | ".join(titles) + " |", "|---|" + "---:|" * (len(titles) - 2) + "---|"]
    for outcome in outcomes:
        if not outcome.runs:
            blank = ["-"] * (len(titles) - 2)
            lines.append(
                "| " + " | ".join([outcome.case.label, *blank, outcome.failure or ""]) + " |"
            )
            continue
        cells = [column.shown(outcome.runs) for column in row.columns]
        if ratio:
            cells.append(_against_floor(outcome, outcomes))
        lines.append("| " + " | ".join([outcome.case.label, *cells, _marks(outcome)]) + " |")
    return lines


def unmeasured(outcomes: Sequence[Outcome]) -> list[str]:
    """Why there is nothing to show of a row."""
    if not outcomes:
        return ["Nothing to measure: this row is not about the servers that were chosen."]
    reasons = dict.fromkeys(outcome.failure or "it was not begun" for outcome in outcomes)
    return ["Nothing was measured.", *reasons]


def _against_floor(outcome: Outcome, outcomes: Sequence[Outcome]) -> str:
    cpu = Column(title="", at="cpu_us")
    for other in outcomes:
        same = (
            other.case.transport == outcome.case.transport
            and other.case.asked == outcome.case.asked
        )
        if other.case.peer.name == "floor" and same:
            own, least = cpu.median(outcome.runs), cpu.median(other.runs)
            if own and least:
                return f"{own / least:.2f}"
    return "-"


def _marks(outcome: Outcome) -> str:
    seen: dict[str, None] = {}
    for run in outcome.runs:
        for mark in run.get("marks", ()):
            seen[mark] = None
    if outcome.failure:
        seen[outcome.failure] = None
    return "; ".join(seen)
