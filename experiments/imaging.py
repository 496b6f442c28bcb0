"""Runs the imaging stage into a run folder."""

from collections.abc import Callable, Iterable
from typing import Any

from experiments.fitting import merit, run_fit
from qhrtem_jax.imaging import fit as imaging
from qhrtem_jax.imaging import page as report
from qhrtem_jax.inputs.settings import RunSettings
from qhrtem_jax.io.run_folder import RunFolder


def run(settings: RunSettings, folder: RunFolder, started: Callable[[], None]) -> None:
    """Fit one image; `started` is called once all input is checked."""
    run_fit(imaging, report, settings, folder, started, _summary)
    folder.remove_checkpoint()


def _summary(result: dict[str, Any]) -> Iterable[str]:
    thickness = result["parameters"]["thickness"]["value"]
    yield f"{merit(result['fit'])}, thickness {thickness} slices"
