"""The reference page of the Python client is what its docstrings say, and misses nothing."""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path
from types import ModuleType

from telecast import client

DOCS = Path(__file__).parents[3] / "docs"
INNER = {"Backoff", "Dropped", "Publisher", "Reconnected", "ServerMessage", "Stream", "Watch"}
"""What the client is made of: documented where it stands."""


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("client_reference", DOCS / "client_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_docstrings_say() -> None:
    own = generator()
    assert own.PAGE.read_text("utf-8") == own.page(), "python docs/client_reference.py --write"


def test_everything_public_is_on_the_page() -> None:
    on_it = {name for name, _ in generator().CLASSES}
    rows = {name for name in client.__all__ if name.endswith("Row")}
    assert set(client.__all__) - INNER - rows - {"TelecastError"} == on_it


def test_everything_public_has_a_docstring() -> None:
    for name in client.__all__:
        kind = getattr(client, name)
        assert inspect.getdoc(kind), name
        for member, value in vars(kind).items():
            if inspect.isfunction(value) and not member.startswith("_"):
                assert name in INNER or inspect.getdoc(value), f"{name}.{member}"
