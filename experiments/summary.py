"""Summary table of a sweep: python -m experiments.summary FOLDER.

Hydra's multirun prints it by itself when it ends (callback `SweepSummary`).
"""

import contextlib
import csv
import io
import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from qhrtem_jax.errors import DamagedError
from qhrtem_jax.io.atomic import write_text
from qhrtem_jax.io.run_folder import read_json

from .sweeps import by_option, failures, overrides_of

COLUMNS: tuple[str, ...] = (
    "run",
    "status",
    "mse",
    "ncc",
    "chi2_reduced",
    "thickness",
    "C1",
    "evaluations",
    "wall_s",
)


MESSAGE = "message"


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """One row per run folder below `folder` (those with .hydra/), best MSE first, with what varies
    from run to run; then those that failed, with their messages."""
    given: list[dict[str, str]] = []
    rows = []
    for hydra_folder in sorted(folder.rglob(".hydra")):
        run = hydra_folder.parent
        row: dict[str, Any] = dict.fromkeys(COLUMNS)
        row |= {"run": str(run.relative_to(folder)), "status": "not finished"}
        if (run / "result.json").is_file():
            result: dict[str, Any] = {"status": "damaged"}
            with contextlib.suppress(DamagedError):
                result = read_json(run / "result.json")
            row["status"] = result.get("status")
            row |= {k: (result.get("cost") or {}).get(k) for k in ("evaluations", "wall_s")}
            fit, parameters = result.get("fit") or {}, result.get("parameters") or {}
            row |= {k: fit.get(k) for k in ("mse", "ncc", "chi2_reduced")}
            row |= {k: (parameters.get(k) or {}).get("value") for k in ("thickness", "C1")}
        rows.append(row)
        given.append(by_option(overrides_of(run)))
    for failed in failures(folder):
        rows.append(dict.fromkeys(COLUMNS) | {"run": failed["run"], "status": "failed"})
        rows[-1][MESSAGE] = failed["message"]
        given.append(by_option(failed["overrides"]))
    names = _varying(given)
    for row, values in zip(rows, given, strict=True):
        row |= {name: values[name] for name in names if name in values}
    return sorted(rows, key=lambda r: (r["mse"] is None, r["mse"] or 0.0, r["run"]))


def _varying(given: list[dict[str, str]]) -> tuple[str, ...]:
    """Options that not all runs were given the same value of."""
    found: dict[str, set[str]] = {}
    for values in given:
        for name, value in values.items():
            found.setdefault(name, set()).add(value)
    return tuple(name for name, values in found.items() if len(values) > 1)


def columns_of(rows: list[dict[str, Any]]) -> tuple[str, ...]:
    """Those of the table: what varies behind the run's status, messages last."""
    names = dict.fromkeys(name for row in rows for name in row)
    more = [name for name in names if name not in (*COLUMNS, MESSAGE)]
    last = [MESSAGE] if MESSAGE in names else []
    return (*COLUMNS[:2], *more, *COLUMNS[2:], *last)


def summarise(folder: Path, console: Console) -> int:
    """Print the table and write summary.csv into `folder`; the number of runs."""
    rows = rows_of(folder)
    if not rows:
        return 0
    content = io.StringIO(newline="")
    columns = columns_of(rows)
    writer = csv.DictWriter(content, columns)
    writer.writeheader()
    writer.writerows(rows)
    target = folder / "summary.csv"
    if target.exists() and not target.read_bytes().startswith(b"run,status,"):
        console.print(f"{target} is there and no table of a sweep: it is left as it is")
    else:
        write_text(target, content.getvalue())
    table = Table(title=f"{len(rows)} runs, best first")
    for column in columns:
        text = column in ("run", "status", MESSAGE)
        table.add_column(
            column, justify="left" if text else "right", no_wrap=not text, overflow="fold"
        )
    for row in rows:
        table.add_row(*(_text(row.get(column)) for column in columns))
    console.print(table)
    return len(rows)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=160)


class SweepSummary(Callback):
    """Summarises a sweep when it ends."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        summarise(Path(config.hydra.sweep.dir), _console())


def main() -> int:
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        print("usage: python -m experiments.summary FOLDER", file=sys.stderr)
        return 2
    return 0 if summarise(Path(sys.argv[1]), _console()) else 2


if __name__ == "__main__":
    sys.exit(main())
