"""Makes docs/reference/python-client.md from the docstrings of `telecast.client`.

    python docs/client_reference.py --write

tests/unit/house/test_client_reference.py holds the page against them.
"""

from __future__ import annotations

import enum
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from telecast import client
from telecast.client import blocking

PAGE = Path(__file__).parent / "reference" / "python-client.md"
HEAD = """# The Python client, call by call

Made from the docstrings (`python docs/client_reference.py --write`).
[The Python client](../python-client.md) shows how to use it. Everything here is imported from
`telecast.client`, and has types for `mypy --strict`.

"""
CLASSES = (
    ("Client", ("__init__", "view", "follow", "publish", "withdraw", "snapshot", "channels")),
    ("View", ()),
    ("Changes", ()),
    ("Update", ()),
    ("State", ()),
    ("Following", ()),
    ("Change", ()),
    ("Op", ()),
    ("PositionFile", ()),
    ("Store", ()),
    ("Snapshot", ()),
    ("Refused", ()),
    ("Unreachable", ()),
    ("BadAnswer", ()),
    ("Behind", ()),
    ("Closed", ()),
)
"""In the order of the page; the names say which members come first."""
BLOCKING = """## Without asyncio

`telecast.client.blocking` has a `Client` with the same calls, options and exceptions, which block:
for scripts and notebooks. What differs stands here.

"""


def page() -> str:
    parts = [HEAD]
    for name, first in CLASSES:
        parts.append(f"## {name}\n\n{text_of(getattr(client, name))}\n\n")
        for member, value in members(getattr(client, name), first):
            parts.append(entry(name, member, value))
    parts += [BLOCKING, *without_asyncio(), rows()]
    return "".join(parts).rstrip() + "\n"


def without_asyncio() -> Iterator[str]:
    for kind in (blocking.Client, blocking.View):
        yield f"### blocking.{kind.__name__}\n\n{text_of(kind)}\n\n"
    for name in ("wait", "rows", "refine"):
        yield "#" + entry("View", name, getattr(blocking.View, name))


def members(kind: type, first: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Public ones that are documented where they are defined."""
    if issubclass(kind, enum.Enum):
        return
    own = {name: value for name, value in vars(kind).items() if documented(name, value)}
    for name in [*(n for n in first if n in own), *(n for n in own if n not in first)]:
        yield name, own[name]


def documented(name: str, value: Any) -> bool:
    if name.startswith("_") and name != "__init__":
        return False
    if name == "__init__" and not getattr(value, "__doc__", None):
        return False
    return isinstance(value, property) or inspect.isfunction(value)


def entry(owner: str, name: str, value: Any) -> str:
    if isinstance(value, property):
        return f"### {owner}.{name}\n\n{text_of(value.fget)}\n\n"
    title = owner if name == "__init__" else f"{owner}.{name}"
    asynchronous = "await " if inspect.iscoroutinefunction(value) else ""
    called = owner if name == "__init__" else f"{owner.lower()}.{name}"
    call = f"```text\n{asynchronous}{called}{signature(value)}\n```"
    return f"### {title}()\n\n{call}\n\n{text_of(value)}\n\n"


def signature(function: Any) -> str:
    """One parameter a line where there are more than two."""
    found = inspect.signature(function)
    kept = [each for name, each in found.parameters.items() if name != "self"]
    words = [shown(each) for each in kept]
    after = "" if found.return_annotation in ("None", None) else f" -> {found.return_annotation}"
    keyword = next((n for n, e in enumerate(kept) if e.kind is e.KEYWORD_ONLY), None)
    if keyword is not None and not any(each.kind is each.VAR_POSITIONAL for each in kept):
        words.insert(keyword, "*")
    if len(words) <= 2:
        return f"({', '.join(words)}){after}"
    return "(\n" + "".join(f"    {word},\n" for word in words) + f"){after}"


def shown(parameter: inspect.Parameter) -> str:
    stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
    kind = "" if parameter.annotation is parameter.empty else f": {parameter.annotation}"
    return f"{stars}{parameter.name}{kind}{default}"


def text_of(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").replace("```python", "```text")


def rows() -> str:
    """The typed rows, whose fields are the channel reference's."""
    names = [name for name in client.__all__ if name.endswith("Row")]
    listed = ", ".join(f"`{name}`" for name in names)
    return (
        f"## Rows\n\n{listed} are the rows of the built-in channels as `TypedDict`s.\n"
        "[Channels and payloads](channels.md) has every field.\n"
    )


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(page(), "utf-8")
    else:
        print(page())
