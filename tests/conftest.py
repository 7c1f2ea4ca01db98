"""How much hypothesis tries: little at a desk, the same every time in CI, a lot when asked."""

from __future__ import annotations

import logging
import os

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
