"""Programs of many independent parts end, on all cores."""

import subprocess
import sys
from pathlib import Path

LIMIT_SECONDS = 240


def test_batches_side_by_side_end():
    done = subprocess.run(
        [sys.executable, "-m", "tests.side_by_side"],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "done"
