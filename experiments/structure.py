"""Runs the structure stage into a run folder."""

from collections.abc import Callable

from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.reporting import structure as report
from qhrtem_jax.reporting.progress import ProgressLine
from qhrtem_jax.stages import structure
from qhrtem_jax.stages.settings import RunSettings


def run(settings: RunSettings, folder: RunFolder, started: Callable[[], None]) -> None:
    """Fit one image; `started` is called once all input is checked."""
    task = structure.prepare(settings)
    if not folder.prepare(task.fingerprint, settings.resume, settings.overwrite):
        return
    started()
    with ProgressLine() as progress:
        result, arrays = structure.run(task, folder, progress)
    folder.write_arrays("arrays.npz", arrays)
    report.write(folder, result, arrays, task)
    folder.write_json("result.json", result)
    for warning in result["warnings"]:
        progress.say(f"note: {warning}")
    fit = result["fit"]
    progress.say(f"MSE {fit['mse']:.6f}, NCC {100 * fit['ncc']:.2f} %")
