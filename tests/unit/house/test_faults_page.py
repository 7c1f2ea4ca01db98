"""The pages of what is promised name tests: they exist, and no row is left out."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parents[2]
DESIGN = TESTS.parent / "docs" / "design"
PAGE = (DESIGN / "faults.md").read_text("utf-8")
FAULTS, _, INVARIANTS = PAGE.partition("## Invariants")
KINDS = FAULTS.partition("## What users and attackers broke")[2]
ROWS, ALWAYS = 81, 22
WHY_NOT_YET = "waits for the cluster"


def rows(text: str) -> dict[int, str]:
    """Number to the last column."""
    found = re.findall(r"^\| (\d+) \|.*\| ([^|]+) \|$", text, re.MULTILINE)
    assert len({number for number, _ in found}) == len(found), "a number stands twice"
    return {int(number): shown for number, shown in found}


@cache
def names_in(file: str) -> frozenset[str]:
    tree = ast.parse((TESTS / file).read_text("utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds))


def test_every_fault_and_every_invariant_is_there() -> None:
    assert set(rows(FAULTS)) == set(range(1, ROWS + 1))
    assert set(rows(INVARIANTS)) == set(range(1, ALWAYS + 1))


def test_each_names_tests_that_exist_or_says_why_there_is_none() -> None:
    for text in (FAULTS, INVARIANTS):
        for number, shown in rows(text).items():
            named = re.findall(r"`([^`]+\.py[^`]*)`", shown)
            assert named or WHY_NOT_YET in shown, number
            for each in named:
                file, _, test = each.partition("::")
                assert test.startswith("test_"), f"{number}: {each} names no test"
                assert test in names_in(file), f"{number}: {file} has no {test}"


def test_each_kind_that_was_broken_names_tests_that_exist() -> None:
    for kind, shown in re.findall(r"^\| (\w[^|]*) \|.*\| ([^|]+) \|$", KINDS, re.MULTILINE):
        if kind == "kind":
            continue
        named = re.findall(r"`([^`]+\.py[^`]*)`", shown)
        assert named, kind
        for each in named:
            file, _, test = each.partition("::")
            assert test in names_in(file), f"{kind}: {file} has no {test}"


def test_what_the_promises_and_the_figures_point_at_is_there() -> None:
    figures = PAGE.partition("## Figures")[2]
    promises = (DESIGN / "guarantees.md").read_text("utf-8")
    named = re.findall(r"\btests/[\w/]+(?:\.py)?", figures + promises)
    assert named
    for each in named:
        assert (TESTS.parent / each).exists(), each
