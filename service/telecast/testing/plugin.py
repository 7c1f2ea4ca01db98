"""The fixture `telecast_service`: pytest finds it because the package names this module.

Nothing of Telecast is imported before a test asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from telecast.testing.service import ServiceInTests


@pytest.fixture
def telecast_service() -> Iterator[ServiceInTests]:
    """A Telecast of this test's own, in memory, on a free port of 127.0.0.1."""
    from telecast.testing.service import ServiceInTests

    with ServiceInTests() as service:
        yield service
