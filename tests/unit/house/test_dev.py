"""dev.py: what it does before anything is installed. That it installs is seen by using it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "dev.py"


@pytest.fixture
def dev(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("dev", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    venv = tmp_path / ".venv-dev"
    monkeypatch.setattr(module, "VENV", venv)
    monkeypatch.setattr(module, "PYTHON", venv / "bin" / "python")
    monkeypatch.setattr(module, "STAMP", venv / "ready")
    monkeypatch.setattr(module, "BOOT", tmp_path / ".venv-dev-boot")
    return module


@pytest.fixture
def steps(dev: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What would have been run."""
    found: list[list[str]] = []

    def call(command: list[str], env: dict[str, str]) -> int:
        found.append(command)
        return 0

    monkeypatch.setattr(dev.subprocess, "call", call)
    return found


@pytest.mark.parametrize(
    ("arguments", "code"),
    [((), 2), (("help",), 0), (("--help",), 0), (("-k", "x"), 2), (("install",), 2)],
)
def test_without_a_command_it_explains_itself_and_installs_nothing(arguments, code):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == code
    said = done.stdout + done.stderr
    assert "demo " in said
    assert "test " in said


def hide(monkeypatch: pytest.MonkeyPatch, dev: ModuleType, *names: str) -> None:
    monkeypatch.setattr(dev.importlib.util, "find_spec", lambda name: name not in names)


def test_the_environment_is_made_with_what_python_brings(dev, steps, monkeypatch):
    hide(monkeypatch, dev)
    dev.make_venv()
    assert steps == [[sys.executable, "-m", "venv", "--clear", str(dev.VENV)]]


def test_without_ensurepip_virtualenv_is_put_aside_and_makes_it(dev, steps, monkeypatch):
    hide(monkeypatch, dev, "ensurepip")
    dev.make_venv()
    install, make = steps
    assert install[-3:] == ["--target", str(dev.BOOT), "virtualenv"]
    assert make[:3] == [sys.executable, "-m", "virtualenv"]


def test_without_pip_either_it_says_what_to_install(dev, steps, monkeypatch):
    hide(monkeypatch, dev, "ensurepip", "pip")
    with pytest.raises(SystemExit, match="apt install python3-venv"):
        dev.make_venv()
    assert steps == []


def test_a_step_that_fails_ends_it_and_leaves_no_stamp(dev, monkeypatch):
    monkeypatch.setattr(dev.subprocess, "call", lambda command, env: 7)
    with pytest.raises(SystemExit) as ended:
        dev.prepare()
    assert ended.value.code == 7
    assert not dev.is_ready()


def test_it_is_ready_only_for_the_python_that_made_it(dev):
    dev.PYTHON.parent.mkdir(parents=True)
    dev.PYTHON.touch()
    assert not dev.is_ready()
    dev.STAMP.write_text(dev.made_by())
    assert dev.is_ready()
    dev.STAMP.write_text(dev.made_by().replace(sys.executable, "/another/python"))
    assert not dev.is_ready()
    dev.STAMP.write_text(dev.made_by())
    dev.PYTHON.unlink()  # as a dangling link after a system upgrade
    assert not dev.is_ready()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["test"], ["-e", "py"]),
        (["test", "-k", "x"], ["-e", "py", "--", "-k", "x"]),
        (["lint"], ["-e", "lint"]),
        (["install", "test", "lint"], ["-e", "py,lint", "--notest"]),
    ],
)
def test_a_command_is_an_environment_of_tox(dev, monkeypatch, arguments, expected):
    became: list[list[str]] = []
    monkeypatch.setattr(dev, "is_ready", lambda: True)
    monkeypatch.setattr(dev.os, "execve", lambda path, words, env: became.append(words))
    monkeypatch.setattr(dev.os, "chdir", lambda path: None)
    dev.main(arguments)
    (command,) = became
    assert command[1:5] == ["-m", "tox", "run", "-q"]
    assert command[5:] == expected


def test_the_demo_is_made_by_tox_and_then_runs_by_itself(dev, steps, monkeypatch):
    became: list[list[str]] = []
    monkeypatch.setattr(dev, "is_ready", lambda: True)
    monkeypatch.setattr(dev.os, "execve", lambda path, words, env: became.append(words))
    monkeypatch.setattr(dev.os, "chdir", lambda path: None)
    dev.main(["demo", "--seed", "2"])
    (made,) = steps
    assert made[-3:] == ["-e", "demo", "--notest"]
    assert became == [[str(dev.DEMO), "demo", "--seed", "2"]]


def test_pip_is_kept_from_asking_and_pythonpath_from_leaking(dev, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    environment = dev.environment()
    assert "PYTHONPATH" not in environment
    assert environment["PIP_NO_INPUT"] == "1"
