#!/usr/bin/env python3
"""Run Telecast from a clone: python3 dev.py COMMAND [ARGUMENTS]

    demo      the service on http://127.0.0.1:8080 with synthetic traders; Ctrl-C ends it
    test      the tests with coverage, several at a time; with arguments, which go to pytest, one
              after the other: test -k resume
    install   what the named environments need, and run nothing: install test lint
    bench     Telecast beside other servers, on this machine: docs/bench.md

Any other word is an environment of tox.ini: lint (ruff), typing (mypy), ...

It needs Python 3.11 or newer and nothing else that is installed. What it installs goes into
.venv-dev and .tox next to this file: delete them and nothing is left. The first run fetches from
the package index; later ones work offline until setup.cfg or tox.ini asks for something new.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv-dev"
BOOT = ROOT / ".venv-dev-boot"
PYTHON = VENV / "bin/python"
STAMP = VENV / "ready"
DEMO = ROOT / ".tox" / "demo" / "bin" / "telecast"
TOX = "tox>=4.30"
COMMANDS = {"demo": "demo", "test": "py"}

# pip must neither ask (there may be nobody) nor look for a newer pip (there may be no network).
QUIET_PIP = {"PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def environment() -> dict[str, str]:
    """The caller's environment without what would make our Python find another one's packages."""
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONHOME", "PYTHONPATH")}
    return {**kept, **QUIET_PIP}


def made_by() -> str:
    """What the environment depends on: another Python, or another tox line, makes it anew."""
    return f"{sys.executable} {sys.version.split()[0]} {TOX}\n"


def is_ready() -> bool:
    # The interpreter is asked for because it is a link that a system upgrade may leave dangling.
    return PYTHON.exists() and STAMP.is_file() and STAMP.read_text("utf-8") == made_by()


def run(*command: str | Path, **extra: str) -> None:
    """Run a step; its failure ends this script with its status, its own words stand above."""
    status = subprocess.call([str(part) for part in command], env={**environment(), **extra})
    if status:
        sys.exit(status if status > 0 else 1)


def make_venv() -> None:
    """Make .venv-dev, also where the distribution ships ensurepip apart (Debian does)."""
    if importlib.util.find_spec("ensurepip") and importlib.util.find_spec("venv"):
        run(sys.executable, "-m", "venv", "--clear", VENV)
        return
    if not importlib.util.find_spec("pip"):
        sys.exit(
            "This Python has neither ensurepip nor pip, so nothing can be installed with it.\n"
            "On Debian and Ubuntu: apt install python3-venv. Then run this again."
        )
    # `--target` leaves the system's packages alone, so PEP 668 has nothing against it.
    install = (sys.executable, "-m", "pip", "install", "--quiet", "--upgrade")
    run(*install, "--target", BOOT, "virtualenv")
    run(sys.executable, "-m", "virtualenv", "--quiet", "--clear", VENV, PYTHONPATH=str(BOOT))
    shutil.rmtree(BOOT, ignore_errors=True)


def prepare() -> None:
    print("Preparing .venv-dev (once) ...", file=sys.stderr, flush=True)
    make_venv()
    run(PYTHON, "-m", "pip", "install", "--quiet", TOX)
    # Last of all: a run that was cut short leaves no stamp and starts over.
    STAMP.write_text(made_by(), "utf-8")


def become(command: list[str]) -> int:
    """Be this command from now on: Ctrl-C and signals then reach it alone and once."""
    return os.execve(command[0], command, environment())


def main(arguments: list[str]) -> int:
    if sys.version_info < (3, 11):  # noqa: UP036 - this file is run by whatever python3 is there
        print(f"Telecast needs Python 3.11 or newer; this is {sys.version}", file=sys.stderr)
        return 2
    if not arguments or arguments[0] in ("help", "-h", "--help"):
        print(__doc__)
        return 0 if arguments else 2
    if sys.stdin is None:
        # Started with stdin closed (some CI): the next file opened would become it, and tox fails.
        os.set_inheritable(os.open(os.devnull, os.O_RDONLY), True)
    name, *rest = arguments
    if name.startswith("-"):
        print(f"The first word is a command, not {name}.\n\n{__doc__}", file=sys.stderr)
        return 2
    if name == "install" and not rest:
        print(f"Name the environments to install.\n\n{__doc__}", file=sys.stderr)
        return 2
    if not is_ready():
        prepare()
    os.chdir(ROOT)
    if name == "demo":  # without tox around it: what it prints last is its own
        run(PYTHON, "-m", "tox", "run", "-qq", "-e", "demo", "--notest")
        return become([str(DEMO), "demo", *rest])
    command = [str(PYTHON), "-m", "tox", "run", "-q", "-e"]
    if name == "install":
        return become([*command, ",".join(COMMANDS.get(each, each) for each in rest), "--notest"])
    command.append(COMMANDS.get(name, name))
    if rest:  # a bare "--" would empty {posargs}, and with it the defaults of tox.ini
        command += ["--", *rest]
    return become(command)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
