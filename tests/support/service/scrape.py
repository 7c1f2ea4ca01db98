"""A service's metrics, parsed as Prometheus would."""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.support.service.live import Live


async def scraped(live: Live, **options: Any) -> dict[tuple[str, ...], float]:
    """(name, label value, ...) to value."""
    async with live.session.get(
        f"{live.url}/metrics", headers=live.headers(options.get("who", "desk"))
    ) as response:
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        text = await response.text()
    found: dict[tuple[str, ...], float] = {}
    for family in text_string_to_metric_families(text):
        assert family.type in ("counter", "gauge", "histogram"), family
        assert family.documentation
        for sample in family.samples:
            where = (sample.name, *sample.labels.values())
            assert where not in found, f"{where} stands twice"
            found[where] = sample.value
    return found
