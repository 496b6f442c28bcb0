"""Runs the stitch stage into a run folder."""

from collections.abc import Callable, Iterable
from typing import Any

from experiments.fitting import merit, run_fit
from qhrtem_jax.field import page as report
from qhrtem_jax.field import stitch
from qhrtem_jax.inputs.settings import RunSettings
from qhrtem_jax.io.run_folder import RunFolder


def run(settings: RunSettings, folder: RunFolder, started: Callable[[], None]) -> None:
    """Stitch and refine a field; `started` is called once all input is checked."""
    run_fit(stitch, report, settings, folder, started, _summary)


def _summary(result: dict[str, Any]) -> Iterable[str]:
    for name, label in (("fit", "stitched"), ("fit_refined", "refined")):
        if name in result["field"]:
            yield f"{label}: {merit(result['field'][name])}"
