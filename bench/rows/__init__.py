"""The rows by name, in the order in which they are run and shown."""

from __future__ import annotations

from typing import cast

from bench.case import Row
from bench.rows import (
    appends,
    capacity,
    growth,
    hot,
    idle,
    nodes,
    publish,
    quiet,
    resume,
    stalled,
    workers,
)

ROWS: dict[str, Row] = {
    row.name: cast(Row, row)
    for row in (
        quiet,
        hot,
        capacity,
        stalled,
        idle,
        publish,
        resume,
        growth,
        nodes,
        workers,
        appends,
    )
}
