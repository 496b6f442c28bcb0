"""history.csv as figures need it."""

import csv

from qhrtem_jax.io.run_folder import RunFolder


def read_history(folder: RunFolder) -> list[dict[str, float]]:
    """Rows of a run's history, those without a finite error left out."""
    with (folder.path / "history.csv").open(encoding="utf-8") as file:
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    return [row for row in rows if row["best_mse"] < float("inf")]
