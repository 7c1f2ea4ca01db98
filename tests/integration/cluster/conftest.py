"""The NATS server that the tests of a module share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.service.nats import NatsServer, program


@pytest.fixture(scope="module")
def server() -> Iterator[NatsServer]:
    """Streams of other tests of the module are on it too: each test has names of its own."""
    if program() is None:
        pytest.skip("no nats-server is to be had")
    found = NatsServer()
    yield found
    found.end()
