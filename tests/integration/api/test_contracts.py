"""The documents as they are served: what a key may see, and that the service keeps to them."""

from __future__ import annotations

from typing import Any

import jsonschema
import orjson
import pytest
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from telecast.channels.configured import catalogue_from
from tests.support.payloads import ORDERS
from tests.support.service.live import Live, principal, served

CATALOGUE = catalogue_from(ORDERS)
DOCUMENTS = ("/openapi.json", "/asyncapi.json", "/types.d.ts", "/types.py", "/docs")


async def text(live: Live, path: str, who: str | None) -> str:
    async with live.session.get(live.url + path, headers=live.headers(who)) as response:
        assert response.status == 200, await response.read()
        return await response.text()


@pytest.mark.parametrize("path", DOCUMENTS)
async def test_a_document_shows_what_the_key_may_see_and_no_more(path: str) -> None:
    bound = principal("bot", "read", channels=("orders",))
    scraper = principal("scraper", "metrics")
    async with served(principal(), bound, scraper, catalogue=CATALOGUE) as live:
        desk, bot, nobody = [await text(live, path, who) for who in ("desk", "bot", None)]
        assert await text(live, path, "scraper") == nobody
        for name, shown in (("orders", (1, 1, 0)), ("positions", (1, 0, 1)), ("system", (1, 0, 0))):
            kind = CATALOGUE[name].type_name
            word = {
                "/openapi.json": f"channels/{name}/",
                "/asyncapi.json": f'"{kind}Row"',
                "/types.d.ts": f'channel: "{name}"',
                "/types.py": f"class {kind}Payload",
                "/docs": f'id="{name}"',
            }[path]
            assert tuple(int(word in each) for each in (desk, bot, nobody)) == shown, name


@pytest.mark.parametrize("path", DOCUMENTS)
async def test_a_wrong_key_gets_no_document(path: str) -> None:
    async with served() as live:
        headers = {"X-API-Key": "tc_00000000_" + "0" * 64}
        async with live.session.get(live.url + path, headers=headers) as response:
            assert response.status == 401


async def test_the_page_may_load_nothing_from_elsewhere() -> None:
    async with served() as live, live.session.get(live.url + "/docs") as response:
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        assert response.content_type == "text/html"
        assert live.url + "/sse/telemetry" in await response.text()


@pytest.mark.parametrize("name", CATALOGUE)
async def test_every_example_is_taken_and_answers_keep_to_the_document(name: str) -> None:
    async with served(catalogue=CATALOGUE) as live:
        document = orjson.loads(await text(live, "/openapi.json", "desk"))
        resource = Resource.from_contents(document, default_specification=DRAFT202012)
        registry: Registry[Any] = Registry().with_resource("urn:document", resource)

        def judge(path: str, method: str, status: str, body: Any) -> None:
            step = path.replace("/", "~1")
            where = f"urn:document#/paths/{step}/{method}/responses/{status}/content"
            reference = {"$ref": f"{where}/application~1json/schema"}
            jsonschema.Draft202012Validator(reference, registry=registry).validate(body)

        path = f"/api/v1/channels/{name}"
        example = document["paths"][f"{path}/events"]["post"]["requestBody"]["content"][
            "application/json"
        ]["examples"]["example"]["value"]
        status, body, _ = await live.post(name, example)
        assert status == 201
        judge(f"{path}/events", "post", "201", body)
        for below in ("", "/snapshot", "/events"):
            status, body, _ = await live.ask("GET", path + below)
            assert status == 200
            judge(path + below, "get", "200", body)
        events = body["data"]["events"]
        assert len(events) == 1
        status, body, _ = await live.post(name, {"nothing": 1})
        refusal = {"$ref": "urn:document#/components/schemas/Refusal"}
        jsonschema.Draft202012Validator(refusal, registry=registry).validate(body)


@pytest.mark.parametrize("host", ["", "a'b;id;'", "$(id)", "%00"])
async def test_a_host_that_no_line_for_a_shell_can_hold_is_not_on_the_page(host: str) -> None:
    async with served() as live:
        headers = {"Host": host}
        async with live.session.get(live.url + "/docs", headers=headers) as response:
            assert response.status == 200
            page = await response.text()
    assert "http://127.0.0.1/sse/telemetry" in page
    assert host == "" or host not in page


async def test_the_lines_of_the_page_have_the_prefix_of_the_service() -> None:
    async with (
        served(path_prefix="/telecast") as live,
        live.session.get(live.url + "/docs") as response,
    ):
        assert f"{live.url}/telecast/sse/telemetry" in await response.text()


@pytest.mark.parametrize(
    ("behind_proxy", "said", "scheme"),
    [(True, "https", "https"), (True, "javascript", "http"), (False, "https", "http")],
)
async def test_the_lines_of_the_page_have_the_scheme_that_a_proxy_reports(
    behind_proxy: bool, said: str, scheme: str
) -> None:
    async with (
        served(behind_proxy=behind_proxy) as live,
        live.session.get(live.url + "/docs", headers={"X-Forwarded-Proto": said}) as response,
    ):
        page = await response.text()
    assert f"{scheme}://127.0.0.1:" in page
    assert f"'{scheme.replace('http', 'ws')}://" in page.replace("&#x27;", "'")
