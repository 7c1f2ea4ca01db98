"""Runs the cases of a row in turn: A B C, A B C, so that a machine that drifts drifts for all."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.case import Case, Options, Row
from bench.fanout import Figures
from bench.machine import Cores
from bench.peers.base import ServerFailed
from bench.tools import LoadFailed

Say = Callable[[str], None]


@dataclass(slots=True)
class Outcome:
    """A case and its repetitions; `failure` says why there are none, or no more."""

    case: Case
    runs: list[Figures] = field(default_factory=list)
    failure: str | None = None

    @property
    def hopeless(self) -> bool:
        """It could not keep up by far: once more would only take as long again."""
        return any(figures.get("overdue") for figures in self.runs)

    def reported(self) -> dict[str, Any]:
        return {
            "peer": self.case.peer.name,
            "transport": self.case.transport,
            "asked": self.case.asked,
            "failure": self.failure,
            "runs": self.runs,
        }


def outcomes_of(row: Row, options: Options) -> list[Outcome]:
    """The row's cases, none of them run yet; a peer that can't run here has failed already."""
    outcomes = [Outcome(case) for case in row.cases(options)]
    for outcome in outcomes:
        if missing := outcome.case.lacks or outcome.case.peer.missing():
            outcome.failure = f"not measured: {missing}"
    return outcomes


def run_row(
    row: Row, outcomes: Sequence[Outcome], repetitions: int, cores: Cores, say: Say
) -> None:
    """Each case `repetitions` times. A case that fails is left out of the next round."""
    say(row.title)
    for outcome in outcomes:
        if outcome.failure:
            say(f"  {outcome.case.label}: {outcome.failure}")
    for repetition in range(repetitions):
        for outcome in outcomes:
            if outcome.failure or (repetition and (outcome.case.once or outcome.hopeless)):
                continue
            began = time.monotonic()
            try:
                figures = outcome.case.run(cores)
            except (LoadFailed, ServerFailed) as failed:
                outcome.failure = f"failed: {failed}"
                say(f"  {outcome.case.label}: {outcome.failure}")
                continue
            outcome.runs.append(figures)
            shown = ", ".join(f"{c.title} {c.shown([figures])}" for c in row.columns)
            marks = "; ".join(figures.get("marks", ()))
            say(
                f"  {outcome.case.label}: {shown}{f' [{marks}]' if marks else ''} "
                f"({time.monotonic() - began:.0f} s)"
            )
