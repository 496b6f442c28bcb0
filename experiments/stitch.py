"""Runs the stitch stage into a run folder."""

from collections.abc import Callable

from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.reporting import stitch as report
from qhrtem_jax.reporting.progress import ProgressLine
from qhrtem_jax.stages import stitch
from qhrtem_jax.stages.settings import RunSettings


def run(settings: RunSettings, folder: RunFolder, started: Callable[[], None]) -> None:
    """Stitch and refine a field; `started` is called once all input is checked."""
    task = stitch.prepare(settings)
    if not folder.prepare(task.fingerprint, settings.resume, settings.overwrite):
        return
    started()
    with ProgressLine() as progress:
        result, arrays = stitch.run(task, folder, progress)
    folder.write_arrays("arrays.npz", arrays)
    report.write(folder, result, arrays, task)
    folder.write_json("result.json", result)
    for warning in result["warnings"]:
        progress.say(f"note: {warning}")
    for name in ("fit", "fit_refined"):
        fit = result["field"].get(name)
        if fit is not None:
            label = "stitched" if name == "fit" else "refined"
            progress.say(f"{label}: MSE {fit['mse']:.6f}, NCC {100 * fit['ncc']:.2f} %")
