"""`telecast serve --workers N`: the parent's side. It loads nothing of the service itself."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from telecast import __version__, logs
from telecast.cli.output import note
from telecast.config import Settings, load_settings, supervisor, table, without_supervisor
from telecast.config.reloading import PARENTS, reread
from telecast.net.listening import hold, port_fault
from telecast.supervision.orders import Finish
from telecast.supervision.parent import Parent
from telecast.watch.notify import Notifier

log = logging.getLogger("telecast.cli.run.serve")


def run_several(settings: Settings, flags: Mapping[str, Any], accepted: Sequence[str]) -> None:
    """Until all workers are gone; ends the process with what became of them."""
    try:
        held = hold(settings.host, settings.port)
    except OSError as fault:
        raise port_fault(settings.host, settings.port, fault) from None
    with contextlib.ExitStack() as stack:
        for each in held:
            stack.enter_context(each)
        settings = dataclasses.replace(
            settings,
            port=held[0].getsockname()[1],
            log_format=_format(settings.log_format),
        )
        finish = asyncio.run(_supervise(settings, flags, accepted))
    logs.flush()
    for line in finish.error:
        note(line)
    sys.exit(finish.status)


async def _supervise(
    settings: Settings, flags: Mapping[str, Any], accepted: Sequence[str]
) -> Finish:
    def again(before: Settings, rolling: bool) -> Settings:
        kept = {name: getattr(before, name) for name in ("port", "log_format")}
        read = reread(
            before,
            dataclasses.replace(load_settings(flags), **kept),
            all_but=PARENTS if rolling else None,
        )
        log.info(
            "settings read again", extra={"changed": read.changed, "need_a_restart": read.kept}
        )
        return read.settings

    def serving() -> None:
        scheme = "http" if settings.tls_cert is None else "https"
        host = f"[{settings.host[0]}]" if ":" in settings.host[0] else settings.host[0]
        log.info(
            "serving",
            extra={
                "url": f"{scheme}://{host}:{settings.port}",
                "version": __version__,
                "journal": settings.journal,
                "workers": settings.workers,
            },
        )

    address, watchdog = supervisor()
    parent = Parent(
        settings,
        [sys.executable, "-m", "telecast", "serve", *words_of(flags, accepted)],
        reread=again,
        notifier=Notifier(address, watchdog),
        watchdog=watchdog,
        environment=without_supervisor(),
    )
    finish = await parent.run(serving)
    log.info("gone")
    return finish


def _format(asked: str) -> str:
    """The workers' lines pass through here: where they go is known to the parent alone."""
    if asked != "auto":
        return asked
    return "text" if sys.stderr.isatty() else "json"


def words_of(flags: Mapping[str, Any], accepted: Sequence[str]) -> list[str]:
    """The command line that has these flags."""
    words: list[str] = []
    for about in table():
        value = flags.get(about.name)
        if value is None or value == ():
            continue
        if isinstance(value, bool):
            words.append(about.flag if value else f"--no-{about.flag[2:]}")
        else:
            several = value if isinstance(value, tuple) else (value,)
            words += [f"{about.flag}={each}" for each in several]
    return words + [f"--accept-change={each}" for each in accepted]
