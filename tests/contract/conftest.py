"""Every test that asks for a `kind` runs once per journal."""

from __future__ import annotations

import pytest

from tests.contract.journals import KINDS


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kind" in metafunc.fixturenames:
        metafunc.parametrize("kind", KINDS, ids=lambda kind: kind.name)
