"""What a hostile peer writes: texts, JSON, and commands that are almost right."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import orjson
from hypothesis import strategies as st

TEXTS = (
    "",
    "a\nb",
    "a\r\nid: 1:1\r\n\r\ndata: x",
    "\u2028\u2029\x85\x0b\x0c",
    "\ufeffbom",
    "\u202eevil\u2066",
    "\x00",
    "\x1b[2J\x7f\x9b",
    "\u0661\u0662:\u0663",
    "\uff11\uff12",
    "\U0001f4a9" * 40,
    "e\u0301\u0300" * 60,
    "x" * 128,
    "x" * 129,
    "x" * 5_000,
    "__proto__",
    "<script>alert(1)</script>",
    '"}],"code":"INTERNAL',
    "${jndi:ldap://x}",
    "%s%n%(x)s{0}",
    "../../etc/passwd",
    "k3v9:1",
    "earliest",
    "positions",
)
"""Strings that somebody, somewhere, took for more than characters."""

JSON = (
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "-1e999",
    "1" * 5_000,
    "-" + "9" * 400,
    "18446744073709551616",
    "-9223372036854775809",
    "1e-999",
    "-0",
    "0x10",
    "01",
    "1_000",
    "\u0661\u0662",
    '"\\ud800"',
    '"\\udc00\\ud800"',
    '"\\ud83d\\ude00"',
    '"\\u0000"',
    '"\\u2028"',
    '"\n"',
    "'a'",
    "undefined",
    "[" * 900 + "]" * 900,
    "[" * 1_023 + "]" * 1_023,
    "[" * 1_100 + "]" * 1_100,
    '{"a":' * 900 + "1" + "}" * 900,
    "[" * 3_000,
    '{"a":1,"a":2}',
    "{}",
    "[]",
    "null",
    "true",
    '""',
    "/*x*/1",
    "1,",
)
"""JSON and what only looks like it, as text."""

texts = st.sampled_from(TEXTS) | st.text(st.characters(codec="utf-8"), max_size=40)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
json_texts = st.sampled_from(JSON) | json_values.map(lambda value: orjson.dumps(value).decode())
"""Any JSON, and what is none."""


@st.composite
def mutated(draw: st.DrawFn, objects: tuple[Mapping[str, Any], ...]) -> str:
    """One of these objects as JSON with something dropped, retyped, added, doubled or cut."""
    body = copy.deepcopy(dict(draw(st.sampled_from(objects))))
    name = draw(st.sampled_from(sorted(body)))
    how = draw(st.sampled_from(["drop", "put", "add", "double", "cut", "behind"]))
    text = draw(json_texts)
    if how == "drop":
        del body[name]
    elif how == "put":
        body[name] = "@@"
    elif how == "add":
        body[draw(texts)] = "@@"
    whole = orjson.dumps(body).decode().replace('"@@"', text)
    if how == "double":
        return (
            f'{{"{name}":{text},{whole[1:]}'
            if draw(st.booleans())
            else (f'{whole[:-1]},"{name}":{text}}}')
        )
    if how == "cut":
        return whole[: draw(st.integers(0, len(whole)))]
    return whole + text if how == "behind" else whole
