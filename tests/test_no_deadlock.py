"""Programs of many independent parts end, on all cores."""

import subprocess
import sys
from pathlib import Path

import pytest

LIMIT_SECONDS = 240


@pytest.mark.parametrize("module", ["side_by_side", "two_devices"])
def test_work_side_by_side_ends(module):
    done = subprocess.run(
        [sys.executable, "-m", f"tests.{module}"],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "done"
