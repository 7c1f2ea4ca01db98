"""How much hypothesis tries: little at a desk, the same every time in CI, a lot when asked.
And which tests run in one process when several processes share the work (pytest -n 2).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web_app
from hypothesis import HealthCheck, Phase, settings

from tests.support import fresh

settings.register_profile(
    "desk",
    deadline=None,
    max_examples=100,
    report_multiple_bugs=False,
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
)
settings.register_profile(
    "ci", settings.get_profile("desk"), derandomize=True, print_blob=True, database=None
)
settings.register_profile(
    "long",
    settings.get_profile("desk"),
    max_examples=1_500,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "desk")
)

# How busy the machine is that tests run on is no complaint of the service's.
logging.getLogger("telecast.watch.lag").setLevel(logging.ERROR)


def pytest_report_header() -> str | None:
    return fresh.LINE


@pytest.fixture(scope="module", autouse=True)
def applications_are_let_go() -> Iterator[None]:
    """aiohttp keeps the last 1,024 applications, with all that they hold, in a cache of the
    middlewares that it has put around handlers: half a gigabyte by the end."""
    yield
    forget = getattr(getattr(web_app, "_cached_build_middleware", None), "cache_clear", None)
    if forget is not None:
        forget()


UNCOUNTED = ("simulation", "faults", "e2e")
"""Folders whose tests try the same lines ten thousand times, or in another process: to count the
lines takes as long again, and the other folders have been through them already."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        drawn = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
        if drawn or item.path.relative_to(here).parts[0] in UNCOUNTED:
            item.add_marker(pytest.mark.no_cover)


APART = "tests/e2e/"
"""Below it each test has a service and a folder to itself, and may take a minute."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Tests of a file stay together, in their order: they share fixtures, and some count what the
    others brought. The long ones go singly, and last, so that no process ends much before another.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            return nodeid if path.startswith(APART) and "/page/" not in path else path

    return ByFile(config, log)
