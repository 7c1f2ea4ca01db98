"""Quiet fan-out: what one delivery costs while there is time for each."""

from __future__ import annotations

from bench.case import FANOUT_COLUMNS, Case, Options, Work, fanout_case, transports_of

name = "quiet"
title = "Quiet fan-out: 1,000 clients, 50 events/s of 200 B"
columns = FANOUT_COLUMNS
# Other ways into the same fan-out: at this rate they change nothing.
WITHOUT = ("telecast-sqlite", "telecast-ndjson")


def cases(options: Options) -> list[Case]:
    work = Work(clients=1_000, rate=50, seconds=options.seconds, warm=options.warm)
    return [
        fanout_case(p, transport, work) for p, transport in transports_of(options, without=WITHOUT)
    ]
