"""Everything that a command prints goes through `show` or `note`.

Text from elsewhere (a payload, a server's message, a file's name) may hold bytes that a terminal
obeys: on a terminal they are shown as escapes. Into a pipe or a file the text goes as it is.
"""

from __future__ import annotations

import os
import sys

import click

from telecast.cli.exits import OutputFault

# JSON escapes C0 already. The rest of what moves a cursor or turns text around must not
# come from a payload: DEL, C1 (its CSI starts a terminal sequence), and the bidi controls.
_UNSAFE = [*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *range(0x202A, 0x202F)]
_UNSAFE += range(0x2066, 0x206A)
_SHOWN = {code: f"\\u{code:04x}" for code in _UNSAFE}
_IN_LINES = {code: shown for code, shown in _SHOWN.items() if code not in (0x09, 0x0A)}


def plain(text: str) -> str:
    """The text on one line, with everything that a terminal would obey made visible."""
    return text.translate(_SHOWN)


def lines(text: str) -> str:
    """The same for text of several lines: tabs and line ends stay."""
    return text.translate(_IN_LINES)


def show(text: str | bytes) -> None:
    """A result, on stdout. Flushed: whoever reads a pipe wants it now."""
    _print(text, err=False)


def note(text: str | bytes) -> None:
    """What goes on, on stderr."""
    _print(text, err=True)


def _print(text: str | bytes, *, err: bool) -> None:
    stream = sys.stderr if err else sys.stdout
    if stream is not None and stream.isatty():
        text = lines(text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else text)
    try:
        click.echo(text, err=err)
    except BrokenPipeError:
        raise
    except OSError as fault:
        if not err:
            let_go_of_stdout()
        raise OutputFault(f"The output can't be written: {fault.strerror}.") from None


def prepare() -> None:
    """Make standard input, output and error usable, whatever the command was started with.

    A descriptor of 0 to 2 that is closed would be taken by the next file or socket that opens, and
    what is printed would go there. A character that the output's encoding lacks is escaped.
    """
    for number, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            taken = os.open(os.devnull, mode)  # the lowest that is free
            if taken != number:
                os.dup2(taken, number)
                os.close(taken)
            os.set_inheritable(number, True)
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def let_go_of_stdout() -> None:
    """What is still buffered can't be written; it must not complain at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
