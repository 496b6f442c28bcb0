"""What the commands of all fitting stages do alike."""

from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from qhrtem_jax.inputs.settings import RunSettings
from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.reporting.progress import ProgressLine


def run_fit(
    stage: ModuleType,
    report: ModuleType,
    settings: RunSettings,
    folder: RunFolder,
    started: Callable[[], None],
    summary: Callable[[dict[str, Any]], Iterable[str]],
) -> None:
    """Check the input, fit, write the run folder, and say what was found.

    `started` is called once all input is checked; the result is written last, so that a folder
    that holds one is complete.
    """
    with ProgressLine() as progress:
        task = stage.prepare(settings)
        if not folder.prepare(task.fingerprint, settings.resume, settings.overwrite):
            return
        started()
        progress.begin()
        result, arrays = stage.run(task, folder, progress)
        folder.write_arrays(arrays)
        report.write(folder, result, arrays, task)
        folder.write_result(result)
        for warning in result["warnings"]:
            progress.say(f"note: {warning}")
        for line in summary(result):
            progress.say(line)


def merit(fit: dict[str, Any]) -> str:
    """The two figures of merit that every stage names."""
    return f"MSE {fit['mse']:.6f}, NCC {100 * fit['ncc']:.2f} %"
