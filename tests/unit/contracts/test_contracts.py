"""The documents are valid, whole, and say what the service sends and takes."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

import telecast
from telecast.channels.catalogue import CHANNELS
from telecast.channels.configured import catalogue_from
from telecast.contracts.asyncapi import asyncapi
from telecast.contracts.openapi import openapi
from telecast.contracts.page import docs_page
from telecast.contracts.shapes import event_name, payload_name, row_name
from telecast.contracts.types import python_types, typescript
from telecast.errors import Code, PeerFault
from telecast.model import Entry, Position
from telecast.protocol import messages
from telecast.protocol.commands import _ACTIONS
from telecast.web.api.contracts import calls_of
from telecast.web.routes import routes
from tests.support.payloads import ORDERS

CALLS = calls_of(routes())
CATALOGUE = catalogue_from(ORDERS)
FAULT = PeerFault(Code.BAD_REQUEST, "Wrong.", {"a": 1})
AT = Position("k3v9", 7)
MESSAGES = {
    "welcome": messages.welcome(
        1, client_id=None, connection_id="c-1", head=AT, heartbeat_seconds=15, limits={"max": 1}
    ),
    "ack": messages.ack(
        1,
        action="publish",
        req_id="1",
        channels=["positions"],
        rejected=[{"channel": "x", "code": "FORBIDDEN", "message": "No."}],
        delivery="all",
        max_rate=None,
        extra={"seq": 8},
    ),
    "snapshot": messages.snapshot(1, ["positions"], "NEW"),
    "resume": messages.resume(1, AT, ["positions"]),
    "leave": messages.leave(1, "positions", ["p1"]),
    "live": messages.live(1, AT, 2),
    "conflated": messages.conflated(1, 2, 3, 4),
    "gap": messages.gap(1, "positions", 2, 3),
    "heartbeat": messages.heartbeat(1, AT),
    "notice": messages.notice(1, FAULT, 5),
    "error": messages.error(1, FAULT, None),
}


def check(document: Mapping[str, Any], schema: str, value: Any) -> None:
    """Raises jsonschema.ValidationError unless the value is of a schema of the document."""
    resource = Resource.from_contents(document, default_specification=DRAFT202012)
    registry: Registry[Any] = Registry().with_resource("urn:document", resource)
    where = {"$ref": f"urn:document#/components/schemas/{schema}"}
    jsonschema.Draft202012Validator(where, registry=registry).validate(value)


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*map(references, value.values()))
    return set().union(*map(references, value)) if isinstance(value, list) else set()


@pytest.mark.parametrize("catalogue", [CHANNELS, CATALOGUE], ids=["built-in", "own"])
def test_the_openapi_document_is_valid(catalogue: Any) -> None:
    document = orjson.loads(orjson.dumps(openapi(catalogue.values(), CALLS)))
    OpenAPIV31SpecValidator(document).validate()


def test_every_call_under_the_api_is_in_it_and_says_what_it_does() -> None:
    paths = openapi(CHANNELS.values(), CALLS)["paths"]
    for call in CALLS:
        if call.path.startswith("/api/v1"):
            assert any(
                call.method.lower() in operations
                for path, operations in paths.items()
                if path.count("/") == call.path.replace("[^/]+", "").count("/")
            ), call
    names = [each["operationId"] for operations in paths.values() for each in operations.values()]
    assert len(set(names)) == len(names)


def test_every_parameter_that_an_admin_call_takes_is_in_it() -> None:
    """Bug: the calls of the consumers were there, without what they can be asked."""
    paths = openapi(CHANNELS.values(), CALLS)["paths"]
    seen = 0
    for route in routes():
        source = inspect.getsource(route.handler)
        named = re.search(r"asking\.parameters\(request, \(([^()*]*)\)\)", source)
        if named is None:
            continue
        operation = paths[route.path][route.method.lower()]
        documented = {each["name"] for each in operation["parameters"] if each["in"] == "query"}
        assert documented == set(re.findall(r'"(\w+)"', named[1])), route.path
        seen += 1
    assert seen >= 3


@pytest.mark.parametrize("make", [lambda c: openapi(c, CALLS), asyncapi], ids=["open", "async"])
def test_every_reference_leads_somewhere(make: Any) -> None:
    document = make(CATALOGUE.values())
    for reference in references(document):
        found = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_example_is_of_its_schema(name: str) -> None:
    channel = CATALOGUE[name]
    document = openapi(CATALOGUE.values(), CALLS)
    check(document, payload_name(channel), channel.example)
    row = channel.load(channel.example)
    check(document, row_name(channel), row)
    entry = Entry(1, 2, name, channel.key(row), "delete", False, orjson.dumps(row))
    sent = messages.event_of(entry, {}, channel.word("delete"))
    check(document, event_name(channel), orjson.loads(sent.json))
    with pytest.raises(jsonschema.ValidationError):
        check(document, payload_name(channel), channel.example | {"more": 1})


@pytest.mark.parametrize("kind", MESSAGES)
def test_what_the_service_sends_is_of_its_schema(kind: str) -> None:
    document = asyncapi(CHANNELS.values())
    sent = orjson.loads(MESSAGES[kind].json)
    check(document, f"{kind}Message", sent)
    if kind != "ack":
        with pytest.raises(jsonschema.ValidationError):
            check(document, f"{kind}Message", sent | {"more": 1})


def test_no_message_of_the_service_is_missing() -> None:
    tree = ast.parse(Path(messages.__file__).read_text("utf-8"))
    made = {
        each.name
        for each in tree.body
        if isinstance(each, ast.FunctionDef)
        and isinstance(each.returns, ast.Name)
        and each.returns.id == "Message"
        and not each.name.startswith("_")
    }
    documented = asyncapi(CHANNELS.values())["components"]["messages"]
    assert {f"{name}Message" for name in made} <= set(documented)


def test_no_action_and_no_field_of_one_is_missing() -> None:
    schemas = asyncapi(CHANNELS.values())["components"]["schemas"]
    found = {
        said["properties"]["action"]["const"]: set(said["properties"]) - {"action", "reqId"}
        for name, said in schemas.items()
        if name.endswith("Action")
    }
    assert found == {name: set(fields) for name, fields in _ACTIONS.items()}


def test_the_shipped_types_are_those_of_the_built_in_channels() -> None:
    root = Path(telecast.__file__).parent
    for path, made in (
        (root / "client/rows.py", python_types(CHANNELS.values())),
        (root / "web/page/client/channels.d.ts", typescript(CHANNELS.values())),
    ):
        advice = f"telecast types {'python' if path.suffix == '.py' else 'typescript'} > {path}"
        assert path.read_text("utf-8") == made, advice


def test_a_field_may_have_the_name_of_a_python_keyword() -> None:
    text = '[orders.fields]\nid = { type = "id" }\nfrom = { type = "id", nullable = true }\n'
    names: dict[str, Any] = {}
    exec(python_types([catalogue_from(text)["orders"]]), names)
    assert names["OrderPayload"].__required_keys__ == {"id"}
    assert names["OrderPayload"].__optional_keys__ == {"from"}


def test_the_page_escapes_what_it_shows_and_asks_nobody_else() -> None:
    text = ORDERS.replace('title = "Orders"', 'description = "<script>alert(1)</script>"')
    page = docs_page(catalogue_from(text).values(), CALLS, "http://127.0.0.1:8080")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "://" not in page.replace("http://127.0.0.1:8080", "").replace("ws://127.0.0.1:8080", "")
    for name in CATALOGUE:
        assert f'id="{name}"' in page


def test_no_description_ends_the_comment_that_it_stands_in() -> None:
    text = (
        '[orders]\ndescription = "*/ evil(); /*"\n'
        '[orders.fields]\nid = { type = "id", description = "*/ evil(); /*" }\n'
    )
    made = typescript([catalogue_from(text)["orders"]])
    outside = re.sub(r"/\*.*?\*/", "", made, flags=re.DOTALL)
    assert "evil" in made
    assert "evil" not in outside


def test_every_link_leads_to_a_call_that_takes_what_it_hands_on() -> None:
    paths = openapi(CATALOGUE.values(), CALLS)["paths"]
    calls = {each["operationId"]: each for path in paths.values() for each in path.values()}
    seen = set()
    for name, call in calls.items():
        for answer in call["responses"].values():
            for word, link in answer.get("links", {}).items():
                target = calls[link["operationId"]]
                taken = {each["name"] for each in target["parameters"]}
                assert link["parameters"].keys() <= taken, (name, word)
                seen.add(word)
    assert seen == {"history", "next", "row", "withdraw"}
    publish = calls["postChannelsOrdersEvents"]["responses"]["201"]["links"]
    assert publish["row"]["parameters"] == {"key": "$request.body#/id"}
