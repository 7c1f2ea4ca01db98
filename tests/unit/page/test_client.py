"""The JavaScript client's own tests, in Node where there is one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NODE = shutil.which("node")


@pytest.mark.skipif(NODE is None, reason="no Node: apt-get install nodejs")
def test_the_client_keeps_its_contract_in_node() -> None:
    assert NODE is not None
    suites = sorted(str(each) for each in HERE.glob("*.test.mjs"))
    done = subprocess.run(
        [NODE, "--test", *suites], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
