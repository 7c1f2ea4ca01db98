"""The results as pictures: PNG for where only that is shown, SVG for the rest."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Rows = Mapping[str, Sequence[Mapping[str, Any]]]
OURS = "#0b6e99"
OTHERS = ("#c1582d", "#7a7a7a", "#6a4c93", "#2f7d4f", "#b08900", "#a23b72", "#4a6fa5", "#8d6e63")
INK, GRID = "#333333", "#dddddd"
LIMIT_MS = 50.0


def _short(value: float) -> str:
    """12000 as 12k: axes over many decades have no room for noughts."""
    for size, sign in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{sign}"
    return f"{value:g}"


def draw(rows: Rows, folder: Path, titles: Mapping[str, str]) -> list[Path]:
    """All pictures that the rows give; `titles` names the peers. Gives the files."""
    import matplotlib

    matplotlib.use("Agg")
    # The same results give the same bytes: no date and no random ids in a file that is committed.
    matplotlib.rcParams.update(
        {"svg.hashsalt": "telecast", "font.size": 9, "axes.edgecolor": INK, "text.color": INK}
    )
    made = []
    for name, picture in PICTURES.items():
        figure = picture(rows, titles)
        if figure is None:
            continue
        for suffix in ("svg", "png"):
            path = folder / f"bench-{name}.{suffix}"
            figure.savefig(path, dpi=130, metadata={"Date": None} if suffix == "svg" else None)
            made.append(path)
    return made


def _runs(rows: Rows, row: str) -> Iterable[Mapping[str, Any]]:
    return (case for case in rows.get(row, ()) if case["runs"])


def _label(case: Mapping[str, Any], titles: Mapping[str, str]) -> str:
    return f"{titles.get(case['peer'], case['peer'])} {case['transport'].upper()}"


def _grid(axes: Any) -> None:
    axes.grid(visible=True, color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _plain_numbers(axis: Any) -> None:
    """1, 2, 5, 10 and so on, as people write them, on a logarithmic axis."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axis.set_minor_formatter(NullFormatter())


def bars(row: str, title: str) -> Callable[[Rows, Mapping[str, str]], Any]:
    """CPU and p99 of each case of a row side by side, with the spread of the repetitions."""

    def picture(rows: Rows, titles: Mapping[str, str]) -> Any:
        from matplotlib.figure import Figure

        cases = list(_runs(rows, row))
        if not cases:
            return None
        figure = Figure(figsize=(9, 0.32 * len(cases) + 1.3), layout="constrained")
        figure.suptitle(title)
        places = range(len(cases))
        for axes, read, unit in zip(
            figure.subplots(1, 2, sharey=True),
            (lambda run: run["cpu_us"] or 0.0, lambda run: run["latency_ms"]["p99"]),
            ("server CPU, µs a delivery", "p99 latency, ms (logarithmic)"),
            strict=True,
        ):
            values = [[read(run) for run in case["runs"]] for case in cases]
            middles = [statistics.median(each) for each in values]
            spread = [
                [m - min(v) for m, v in zip(middles, values, strict=True)],
                [max(v) - m for m, v in zip(middles, values, strict=True)],
            ]
            colours = [OURS if c["peer"].startswith("telecast") else OTHERS[1] for c in cases]
            axes.barh(places, middles, xerr=spread, color=colours, ecolor=INK, height=0.7)
            axes.set_xlabel(unit)
            if "logarithmic" in unit:
                # From a whole power of ten: a bar's length must not depend on who is the shortest.
                least = min((value for each in values for value in each if value > 0), default=1)
                axes.set_xscale("log")
                axes.set_xlim(left=10 ** math.floor(math.log10(least)))
                _plain_numbers(axes.xaxis)
            _grid(axes)
            axes.set_yticks(places, [_label(case, titles) for case in cases])
        axes.invert_yaxis()
        return figure

    return picture


def against_load(rows: Rows, titles: Mapping[str, str]) -> Any:
    """p99 and CPU a delivery against the deliveries asked for: what capacity's ladder tried."""
    from matplotlib.figure import Figure

    cases = list(_runs(rows, "capacity"))
    if not cases:
        return None
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    figure.suptitle("500 clients, events/s raised")
    latency, cpu = figure.subplots(1, 2)
    others = iter(OTHERS * 4)
    colours: dict[str, str] = {}
    for case in cases:
        peer = case["peer"]
        ours = peer == "telecast"
        colours.setdefault(peer, OURS if ours else next(others))
        curve = [p for run in case["runs"] for p in run["curve"]]
        for axes, values in (
            (latency, [p["latency_ms"]["p99"] for p in curve]),
            (cpu, [p["cpu_us"] for p in curve]),
        ):
            axes.plot(
                [p["clients"] * p["rate"] for p in curve],
                values,
                "-" if case["transport"] == "ws" else "--",
                marker="o",
                markersize=3,
                linewidth=2 if ours else 1,
                color=colours[peer],
                label=_label(case, titles),
            )
    latency.axhline(LIMIT_MS, color=INK, linewidth=0.8, linestyle=":")
    for axes, unit in ((latency, "p99 latency, ms"), (cpu, "server CPU, µs a delivery")):
        axes.set(xscale="log", yscale="log", xlabel="deliveries/s asked for", ylabel=unit)
        for axis in (axes.xaxis, axes.yaxis):
            _plain_numbers(axis)
        _grid(axes)
    handles, labels = latency.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure


def growth(rows: Rows, titles: Mapping[str, str]) -> Any:
    """A panel for each thing that grows: CPU a delivery on the left axis, p99 on the right."""
    from matplotlib.figure import Figure

    points: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for case in _runs(rows, "growth"):
        for run in case["runs"]:
            cost = run["event_us"] if run["dimension"] == "filters" else run["cpu_us"]
            points[run["dimension"]].append((run["value"], cost or 0.0, run["latency_ms"]["p99"]))
    if not points:
        return None
    lines = -(-len(points) // 3)
    figure = Figure(figsize=(10, 2.9 * lines), layout="constrained")
    figure.suptitle("Telecast: server CPU (line) and p99 (dashes) as one thing grows")
    panels = iter(figure.subplots(lines, 3, squeeze=False).flat)
    for dimension, values in points.items():
        axes = next(panels)
        grown, cost, p99 = zip(*sorted(values), strict=True)
        x = [f"{value:,}" for value in grown]
        axes.plot(x, cost, "-o", color=OURS, markersize=4)
        axes.set(xlabel=dimension, ylim=(0, max(cost) * 1.15))
        what = "an event" if dimension == "filters" else "a delivery"
        axes.set_ylabel(f"µs {what}", color=OURS)
        _grid(axes)
        right = axes.twinx()
        right.plot(x, p99, "--s", color=OTHERS[0], markersize=3)
        right.set_ylabel("p99 ms", color=OTHERS[0])
        right.set_ylim(0, max(p99) * 1.15)
        right.spines["top"].set_visible(False)
    for axes in panels:
        axes.set_visible(False)
    return figure


PICTURES: dict[str, Callable[[Rows, Mapping[str, str]], Any]] = {
    "quiet": bars("quiet", "Quiet: 1,000 clients, 50 events/s"),
    "hot": bars("hot", "Hot: 500 clients, 1,000 events/s"),
    "load": against_load,
    "growth": growth,
}
