"""Command lines in the tests' own process: what one compiles serves the next."""

import contextlib
import io
import sys
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

from experiments import run as command_line
from tests import crash


def commanded(*arguments: str) -> tuple[int, str]:
    """(exit status, what was written to stderr)."""
    GlobalHydra.instance().clear()
    error = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(error):
        patch.setattr(sys, "argv", ["run", *arguments])
        status = command_line.main()
    return status, error.getvalue()


def finish(stage: str, folder: Path, known: Path) -> None:
    """A quick run of a stage to its end, or what is left of it."""
    _, _, _, *arguments = crash.arguments(stage, folder, known)
    status, error = commanded(*arguments)
    assert status == 0, error
