"""Compiles the load: by the system's C compiler, else by the one that ziglang brings."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCES = Path(__file__).parent / "load"
BUILT = Path(__file__).parent / "results" / "bin"
FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra")
PROGRAMS = {
    "subscribers": ("subscribers.c", "client.c", "tally.c", "histogram.c", "wire.c"),
    "publisher": ("publisher.c", "histogram.c", "wire.c"),
    "floor": ("floor.c",),
}
LIBRARY = ("tally.c", "histogram.c", "wire.c", "stamp.c")


class NoCompiler(RuntimeError):
    """There is nothing that compiles C; the message says what to install."""


def compiler() -> list[str]:
    """The command that compiles C. Raises NoCompiler."""
    for name in (os.environ.get("CC"), "cc", "gcc", "clang"):
        if name and shutil.which(name):
            return [name]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc"]
    raise NoCompiler(
        "The load is written in C and nothing here compiles it: install a C compiler "
        "(Debian: apt-get install gcc libc6-dev), or one by pip: "
        f"{sys.executable} -m pip install ziglang"
    )


def program(name: str) -> Path:
    """The compiled program, made anew only where its sources have changed."""
    return _built(name, PROGRAMS[name], ())


def library() -> Path:
    """The pure parts as a shared library, for the tests."""
    return _built("parts.so", LIBRARY, ("-shared", "-fPIC"))


def _built(name: str, sources: tuple[str, ...], flags: tuple[str, ...]) -> Path:
    command = [*compiler(), *FLAGS, *flags]
    digest = hashlib.sha256(" ".join(command).encode())
    for path in sorted(SOURCES.iterdir()):
        digest.update(path.read_bytes())
    target = BUILT / f"{digest.hexdigest()[:16]}-{name}"
    if not target.exists():
        BUILT.mkdir(parents=True, exist_ok=True)
        # Made under another name first: a run that is cut short leaves no half of a program.
        with tempfile.TemporaryDirectory(dir=BUILT) as place:
            made = Path(place) / name
            parts = [str(SOURCES / source) for source in sources]
            subprocess.run([*command, "-o", str(made), *parts], check=True)
            made.replace(target)
    return target
