"""Runs the structure stage into a run folder."""

from collections.abc import Callable, Iterable
from typing import Any

from experiments.fitting import merit, run_fit
from qhrtem_jax.inputs.settings import RunSettings
from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.structure import fit as structure
from qhrtem_jax.structure import page as report


def run(settings: RunSettings, folder: RunFolder, started: Callable[[], None]) -> None:
    """Fit one image; `started` is called once all input is checked."""
    run_fit(structure, report, settings, folder, started, _summary)


def _summary(result: dict[str, Any]) -> Iterable[str]:
    yield merit(result["fit"])
