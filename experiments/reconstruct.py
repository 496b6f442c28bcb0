"""Runs the reconstruct stage into a run folder."""

from collections.abc import Callable

from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.reporting import reconstruct as report
from qhrtem_jax.reporting.progress import ProgressLine
from qhrtem_jax.stages import reconstruct
from qhrtem_jax.stages.settings import RunSettings


def run(settings: RunSettings, folder: RunFolder, started: Callable[[], None]) -> None:
    """Count atoms in all regions; `started` is called once all input is checked."""
    task = reconstruct.prepare(settings)
    if not folder.prepare(task.fingerprint, settings.resume, settings.overwrite):
        return
    started()
    with ProgressLine() as progress:
        result, arrays = reconstruct.run(task, folder, progress)
    folder.write_arrays("arrays.npz", arrays)
    report.write(folder, result, arrays, task)
    folder.write_json("result.json", result)
    for warning in result["warnings"]:
        progress.say(f"note: {warning}")
    for roi in result["rois"]:
        numbers = " ".join(f"{c['species']}{c['n']}" for c in roi["counts"])
        progress.say(
            f"{roi['name']}: {roi['thickness_nm']:.2f} nm, MSE {roi['fit']['mse']:.6f}, "
            f"NCC {100 * roi['fit']['ncc']:.2f} %, {numbers}"
        )
