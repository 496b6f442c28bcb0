"""Runs the reconstruct stage into a run folder."""

from collections.abc import Callable, Iterable
from typing import Any

from experiments.fitting import merit, run_fit
from qhrtem_jax.inputs.settings import RunSettings
from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.regions import page as report
from qhrtem_jax.regions import reconstruct


def run(settings: RunSettings, folder: RunFolder, started: Callable[[], None]) -> None:
    """Count atoms in all regions; `started` is called once all input is checked."""
    run_fit(reconstruct, report, settings, folder, started, _summary)


def _summary(result: dict[str, Any]) -> Iterable[str]:
    for roi in result["rois"]:
        numbers = " ".join(f"{c['species']}{c['n']}" for c in roi["counts"])
        yield f"{roi['name']}: {roi['thickness_nm']:.2f} nm, {merit(roi['fit'])}, {numbers}"
