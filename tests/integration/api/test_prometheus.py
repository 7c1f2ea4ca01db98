"""A real Prometheus scrapes the service, and its linter finds nothing to say."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from telecast.model import Principal
from telecast.web.api import metrics
from tests.support.payloads import position
from tests.support.service.live import PATIENCE, principal, served
from tests.support.service.process import HOST, free_port

PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")

CONFIG = """
global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}
scrape_configs:
  - job_name: telecast
    authorization: {{credentials: {key}}}
    static_configs: [{{targets: ["{target}"]}}]
"""


@pytest.mark.skipif(PROMTOOL is None, reason="apt-get install prometheus brings promtool")
async def test_promtool_finds_nothing_to_say_about_the_names_and_the_format() -> None:
    async with served() as live, live.ws(channels="positions") as reader:
        await reader.opening()
        await live.publish("positions", position("p1"))
        await reader.events()
        async with live.session.get(f"{live.url}/metrics", headers=live.headers("desk")) as answer:
            text = await answer.read()
    checked = await asyncio.create_subprocess_exec(
        *(str(PROMTOOL), "check", "metrics"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await checked.communicate(text)
    assert (checked.returncode, said.decode()) == (0, "")


@pytest.mark.skipif(PROMETHEUS is None, reason="apt-get install prometheus")
async def test_a_real_prometheus_scrapes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scrapes, third = 0, asyncio.Event()
    require = metrics.require

    def counted(request: web.Request, scope: str) -> Principal:
        nonlocal scrapes
        scrapes += 1
        if scrapes == 3:  # by then the first is stored
            third.set()
        return require(request, scope)

    monkeypatch.setattr(metrics, "require", counted)
    async with served(principal(), principal("prometheus", "metrics")) as live:
        await live.publish("positions", position("p1"), position("p2"))
        config, listens = tmp_path / "prometheus.yml", f"{HOST}:{free_port()}"
        target = live.url.removeprefix("http://")
        config.write_text(CONFIG.format(key=live.secrets["prometheus"], target=target))
        server = await asyncio.create_subprocess_exec(
            *(str(PROMETHEUS), f"--config.file={config}", f"--storage.tsdb.path={tmp_path}/data"),
            f"--web.listen-address={listens}",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        found = {}
        try:
            async with asyncio.timeout(PATIENCE), aiohttp.ClientSession() as session:
                await third.wait()
                for query in ("up", "telecast_rows", "telecast_publish_commit_seconds_bucket"):
                    asked = session.get(f"http://{listens}/api/v1/query", params={"query": query})
                    async with asked as answer:
                        found[query] = (await answer.json())["data"]["result"]
        finally:
            server.kill()
            await server.wait()
    assert [each["value"][1] for each in found["up"]] == ["1"]
    rows = {each["metric"]["channel"]: each["value"][1] for each in found["telecast_rows"]}
    assert rows["positions"] == "2"
    buckets = found["telecast_publish_commit_seconds_bucket"]
    assert [each["value"][1] for each in buckets if each["metric"]["le"] == "+Inf"] == ["1"]
