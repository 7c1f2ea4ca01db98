"""Hot fan-out: more deliveries a second than one system call each leaves time for."""

from __future__ import annotations

from bench.case import FANOUT_COLUMNS, Case, Options, Work, fanout_case, transports_of

name = "hot"
title = "Hot fan-out: 500 clients, 1,000 events/s of 200 B"
columns = FANOUT_COLUMNS


def cases(options: Options) -> list[Case]:
    # Who saturates delivers for seconds what was published in one: short, so that it ends.
    work = Work(clients=500, rate=1_000, seconds=2.0, warm=0.5, deadline=8.0)
    return [fanout_case(peer, transport, work) for peer, transport in transports_of(options)]
