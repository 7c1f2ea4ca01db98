"""One version: what is installed and deployed, what the pages show, what the changelog says."""

from __future__ import annotations

import json
import re
from pathlib import Path

from telecast import __version__

ROOT = Path(__file__).parents[3]


def test_every_place_that_names_the_version_names_the_same() -> None:
    package = ROOT / "service/telecast/web/page/client/package.json"
    assert json.loads(package.read_text("utf-8"))["version"] == __version__
    deployed = (ROOT / "deploy/kubernetes/telecast.yaml").read_text("utf-8")
    assert set(re.findall(r"image: telecast:(\S+)", deployed)) == {__version__}
    for page in ("docs/operating.md", "docs/protocol.md"):
        shown = re.findall(r'"version":"(\d[^"]*)"', (ROOT / page).read_text("utf-8"))
        assert set(shown) == {__version__}, page


def test_the_changelog_begins_with_this_version() -> None:
    """Its date is that of the release, and nothing stands above it."""
    headings = re.findall(r"^## \[(.+)\] - (.+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert headings[0][0] == __version__
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", headings[0][1])
