"""Command lines in the tests' own process: what one compiles serves the next."""

import contextlib
import io
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from matplotlib.figure import Figure

from experiments import run as command_line
from tests import crash

BLANK = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55"
    "0000000a49444154789c636000000002000148afa4710000000049454e44ae426082"
)
"""A PNG of one pixel."""


def commanded(*arguments: str, drawn: bool = False) -> tuple[int, str]:
    """(exit status, what was written to stderr); figures are blank where they are not `drawn`."""
    GlobalHydra.instance().clear()
    error = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(error):
        patch.setattr(sys, "argv", ["run", *arguments])
        if "-m" not in arguments:  # to find that out Hydra composes everything a first time
            patch.setattr(Hydra, "get_mode", lambda *_, **__: None)
        if not drawn:
            patch.setattr(Figure, "savefig", _blank)
        status = command_line.main()
    return status, error.getvalue()


def _blank(figure: Figure, file: Any, **_: Any) -> None:
    file.write(BLANK)


def finish(stage: str, folder: Path, known: Path, *others: str, drawn: bool = False) -> None:
    """A quick run of a stage to its end, or what is left of it."""
    _, _, _, *arguments = crash.arguments(stage, folder, known, *others)
    status, error = commanded(*arguments, drawn=drawn)
    assert status == 0, error
