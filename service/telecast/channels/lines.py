"""Where things stand in a TOML file: its parser gives values only, a user needs the line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

Path = tuple[str, ...]

_HEADER = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]\s*(?:#.*)?")
_KEY = re.compile(r"\s*([A-Za-z0-9_.\"' -]+?)\s*=")
_AT = re.compile(r"\s*\(at (?:line (\d+), column \d+|end of document)\)")


class Located:
    """The values of a TOML text, and the line of each.

    `content` is all that could be read; `problems` are (line, sentence) pairs for what could not.
    A name that stands twice is one problem, and does not hide those in the rest of the file.
    """

    def __init__(self, text: str) -> None:
        self.problems: list[tuple[int, str]] = []
        self._lines: dict[Path, int] = {}
        for line, path in _paths(text):
            self._lines.setdefault(path, line)
        try:
            self.content: Mapping[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError:
            self.content = self._piecewise(text)

    def line(self, path: Path) -> int:
        """The line of what stands at a path, or of the nearest table around it."""
        while path:
            if path in self._lines:
                return self._lines[path]
            path = path[:-1]
        return 1

    def _piecewise(self, text: str) -> dict[str, Any]:
        """Each table of the first level for itself: one mistake is not to hide the others."""
        found: dict[str, Any] = {}
        for start, piece in _pieces(text):
            try:
                content = tomllib.loads("\n" * (start - 1) + piece)
            except tomllib.TOMLDecodeError as fault:
                message = str(fault)
                at = _AT.search(message)
                line = int(at[1]) if at is not None and at[1] else start + piece.count("\n")
                self.problems.append((line, f"no valid TOML: {_AT.sub('', message)}."))
                continue
            for name, value in content.items():
                if name in found:
                    first = self.line((name,))
                    self.problems.append(
                        (start, f"two channels are named {name!r}; the other is in line {first}.")
                    )
                else:
                    found[name] = value
        return found


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    """(first line, text) of each part that begins with a header of the first level."""
    lines = text.splitlines()
    starts = [line for line, path in _headers(text) if len(path) == 1]
    edges = [1, *(line for line in starts if line > 1), len(lines) + 1]
    for start, end in pairwise(edges):
        yield start, "\n".join(lines[start - 1 : end - 1])


def _headers(text: str) -> Iterator[tuple[int, Path]]:
    for number, line in _outside_of_texts(text):
        if header := _HEADER.fullmatch(line):
            yield number, _split(header[1])


def _paths(text: str) -> Iterator[tuple[int, Path]]:
    """(line, path) of each header and each key that begins a line."""
    table: Path = ()
    for number, line in _outside_of_texts(text):
        if header := _HEADER.fullmatch(line):
            table = _split(header[1])
            path = table
        elif key := _KEY.match(line):
            path = table + _split(key[1])
        else:
            continue
        for end in range(1, len(path) + 1):
            yield number, path[:end]


def _outside_of_texts(text: str) -> Iterator[tuple[int, str]]:
    """The lines that do not begin within a text of several lines."""
    within = ""
    for number, line in enumerate(text.splitlines(), 1):
        if not within:
            yield number, line
        for quotes in ('"""', "'''"):
            if within in ("", quotes) and line.count(quotes) % 2:
                within = "" if within else quotes


def _split(dotted: str) -> Path:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))
