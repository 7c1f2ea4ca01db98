"""What is released is whole: an sdist and a wheel, each installed into an empty environment.

`tox -e build` runs this, on each Python from 3.11 on that it is given in TELECAST_PYTHONS.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHONS = os.environ.get("TELECAST_PYTHONS", sys.executable).split(os.pathsep)
INSIDE = (
    "telecast/py.typed",
    "telecast/web/page/static/index.html",
    "telecast/web/page/client/telecast.js",
    "telecast/web/page/client/telecast.d.ts",
    "telecast/client/client.py",
    "telecast/testing/plugin.py",
)
SEE = """
import importlib.metadata as metadata, importlib.resources as resources
import telecast, telecast.client, telecast.app
names = {e.name for e in metadata.entry_points(group="console_scripts")}
assert "telecast" in names, names
assert [e.name for e in metadata.entry_points(group="pytest11")] == ["telecast"]
page = resources.files("telecast") / "web" / "page"
for path in ("static/index.html", "client/telecast.js"):
    assert (page / path).is_file(), path
print(telecast.__version__, metadata.version("telecast"))
"""

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with both."""
    folder = tmp_path_factory.mktemp("dist")
    copy = tmp_path_factory.mktemp("clone") / "telecast"
    run("git", "clone", "--quiet", str(ROOT), str(copy), cwd=ROOT)
    run(sys.executable, "-m", "build", "--outdir", str(folder), ".", cwd=copy)
    return folder


def run(*command: str, cwd: Path) -> str:
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONWARNINGS")}
    done = subprocess.run(command, cwd=cwd, env=kept, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_has_the_page_the_clients_and_the_types(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert set(INSIDE) <= names
    assert not [name for name in names if name.startswith(("tests/", "bench/", "docs/"))]


def test_the_sdist_has_what_it_takes_to_test_it(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {f"service/{name}" for name in INSIDE}
    wanted |= {"tox.ini", "dev.py", "CHANGELOG.md", "SECURITY.md", "CODE_OF_CONDUCT.md"}
    wanted |= {"docs/index.md", "samples/python/follow.py", "tests/conftest.py"}
    assert wanted <= names, wanted - names
    assert not [name for name in names if "node_modules" in name or name.endswith(".pyc")]


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("kind", ["*.whl", "*.tar.gz"])
def test_either_installs_into_an_empty_environment_and_works(
    built: Path, tmp_path: Path, kind: str, python: str
) -> None:
    (package,) = built.glob(kind)
    if python == sys.executable:
        venv.create(tmp_path / "env", with_pip=True)
    else:
        run(python, "-m", "venv", str(tmp_path / "env"), cwd=tmp_path)
    inside = tmp_path / "env" / "bin"
    run(str(inside / "pip"), "install", "--quiet", str(package), cwd=tmp_path)
    seen, known = run(str(inside / "python"), "-c", SEE, cwd=tmp_path).split()
    assert seen == known
    assert seen in run(str(inside / "telecast"), "--version", cwd=tmp_path)
