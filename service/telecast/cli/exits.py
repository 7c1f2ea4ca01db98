"""How a command ends, so that scripts can tell: the one list of exit codes."""

from __future__ import annotations

from enum import IntEnum

import click

from telecast.errors import Code, OwnFault, TelecastError


class Exit(IntEnum):
    OK = 0
    ERROR = 1
    USAGE = 2  # click's own: the command line can't be understood
    AUTH = 3  # the key is unknown, expired, or lacks the right
    UNREACHABLE = 4  # nobody answers at the address
    STRICT = 5  # --strict saw what it watches for, such as a gap


class Unreachable(click.ClickException):
    """Nobody answers at the address; the message names it."""

    exit_code = Exit.UNREACHABLE


class StrictViolation(click.ClickException):
    """What `--strict` watches for has happened; the message says what."""

    exit_code = Exit.STRICT


class OutputFault(click.ClickException):
    """What was to be printed can't be written, such as to a full disk."""

    exit_code = Exit.ERROR


def exit_for(error: TelecastError) -> Exit:
    return Exit.AUTH if error.rule.http in (401, 403) else Exit.ERROR


def lines_for(error: TelecastError) -> list[str]:
    """The error in the operator's words: each problem on a line, then what to do where known."""
    problems = getattr(error, "problems", None)
    if problems is not None:  # the operator's own settings: each sentence says what would be right
        return [f"Error: {problem}" for problem in problems]
    if isinstance(error, OwnFault):  # raised in this process; the advice is for a service's callers
        return [f"Error: {error.message}"]
    advice = error.rule.advice
    if advice == Code.UNAUTHENTICATED.rule.advice:  # it speaks of headers, which a command sends
        advice = "Give a valid key: in TELECAST_KEY, or with --key."
    return [f"Error: {error.message}", advice]
