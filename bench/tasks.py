"""What the long tasks of a page's main thread were made of, from a trace of Chromium."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

CATEGORIES = ["-*", "devtools.timeline", "disabled-by-default-devtools.timeline", "v8"]
TASK = "RunTask"
MAIN_THREAD = "CrRendererMain"


@dataclass(frozen=True, slots=True)
class LongTask:
    """Times in ms. `cpu` is what the thread had of it: the rest it waited for a processor. `parts`
    are the times that each kind of work took itself, without what it called."""

    at: float
    wall: float
    cpu: float
    parts: Mapping[str, float]

    def __str__(self) -> str:
        most = sorted(self.parts.items(), key=lambda part: -part[1])[:4]
        words = ", ".join(f"{name} {spent:.0f}" for name, spent in most if spent >= 1)
        return f"at {self.at / 1000:5.1f} s  {self.wall:4.0f} ms, CPU {self.cpu:4.0f}: {words}"


def long_tasks(events: Iterable[Mapping[str, Any]], longer_than: float) -> list[LongTask]:
    """Those of the busiest page, in order. `events` are a trace's, `longer_than` is in ms."""
    events = list(events)
    mains = {
        (each["pid"], each["tid"])
        for each in events
        if each.get("name") == "thread_name" and each["args"]["name"] == MAIN_THREAD
    }
    timed = [each for each in events if each.get("ph") == "X" and "dur" in each]
    busy = Counter((each["pid"], each["tid"]) for each in timed)
    thread = max(mains, key=lambda main: busy[main], default=None)
    ours = [each for each in timed if (each["pid"], each["tid"]) == thread]
    ours.sort(key=lambda each: (each["ts"], -each["dur"]))
    start = ours[0]["ts"] if ours else 0
    found: list[LongTask] = []
    stack: list[tuple[float, str]] = []
    parts: Counter[str] = Counter()
    task: Mapping[str, Any] | None = None

    def close() -> None:
        if task is not None and task["dur"] / 1000 > longer_than:
            at, wall = (task["ts"] - start) / 1000, task["dur"] / 1000
            found.append(LongTask(at, wall, task.get("tdur", 0) / 1000, dict(parts)))

    for each in ours:
        while stack and each["ts"] >= stack[-1][0]:
            stack.pop()
        if each["name"] == TASK and not stack:
            close()
            task, parts = each, Counter()
        elif task is None or each["ts"] >= task["ts"] + task["dur"]:
            continue
        name = _name(each)
        if stack:
            parts[stack[-1][1]] -= each["dur"] / 1000
        parts[name] += each["dur"] / 1000
        stack.append((each["ts"] + each["dur"], name))
    close()
    return found


def _name(event: Mapping[str, Any]) -> str:
    data = event.get("args", {}).get("data") or {}
    if event["name"] == "FunctionCall":
        file = str(data.get("url", "")).rsplit("/", 1)[-1]
        return f"{data.get('functionName') or 'function'} of {file}:{data.get('lineNumber', '?')}"
    return str(event["name"])
