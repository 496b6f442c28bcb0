"""Runs and their results from Python: `qhrtem_jax.run`, `qhrtem_jax.open_result`."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Shaped

from qhrtem_jax.errors import InputError
from qhrtem_jax.io.run_folder import RESULT, RunFolder
from qhrtem_jax.io.structures import read_unit_cell
from qhrtem_jax.numerics.precision import need_float64

if TYPE_CHECKING:  # of packages that need not be installed
    import ase
    import hyperspy.signals
    import xarray


@dataclasses.dataclass(frozen=True)
class OpenResult:
    """A finished run: `content` of its `result.json`; everything else is read when it is asked
    for."""

    path: Path
    content: Mapping[str, Any]

    @functools.cached_property
    def arrays(self) -> dict[str, Shaped[np.ndarray, "..."]]:
        """What `arrays.npz` holds."""
        return RunFolder(self.path).read_arrays()

    def value(self, parameter: str) -> tuple[float, float | None]:
        """(value, standard error) of an imaging parameter, in the unit that `content` says."""
        entry = self.content["parameters"][parameter]
        return entry["value"], entry["std"]

    def stage(self, name: str) -> "OpenResult":
        """The result of a stage of a pipeline."""
        return open_result(self.path / name)

    def dataset(self) -> "xarray.Dataset":
        """Images, parameters and numbers with their coordinates and units (needs xarray)."""
        import xarray

        path = self.path / "fit.nc"
        if not path.is_file():
            raise InputError(f"{self.path}: found no fit.nc, expected a stage that has images")
        return xarray.load_dataset(path, engine="h5netcdf")

    def signal(self, name: str = "experiment") -> "hyperspy.signals.Signal2D":
        """An image, or a stack of them, with calibrated axes, as HyperSpy has them (needs
        HyperSpy)."""
        import hyperspy.api as hyperspy

        data = self.dataset()
        if name not in data or data[name].dims[-2:] != ("y", "x"):
            images = [n for n, array in data.items() if array.dims[-2:] == ("y", "x")]
            raise InputError(f"{self.path}: found no image {name!r}, expected one of {images}")
        image, axes = data[name], []
        for dim in image.dims:
            place = data[dim].values if dim in ("y", "x") else np.arange(image.sizes[dim])
            step = float(place[1] - place[0]) if len(place) > 1 else 1.0
            unit = "nm" if dim in ("y", "x") else ""
            axes.append(
                {"name": str(dim), "size": len(place), "scale": step, "units": unit, "offset": 0.0}
            )
        title = {"General": {"title": f"{self.content['stage']}: {name}"}}
        return hyperspy.signals.Signal2D(image.values, axes=axes, metadata=title)

    def atoms(self, name: str = "field") -> "ase.Atoms":
        """A model that the run wrote, with its occupancies and Debye-Waller factors (B, Angstrom^2)
        as arrays (needs ASE)."""
        import ase

        cell = read_unit_cell(self.path / "structures" / f"{name}.cif")
        found = ase.Atoms(
            cell.atoms.symbols,
            cell=10.0 * cell.edges_nm,
            scaled_positions=cell.atoms.positions,
            pbc=True,
        )
        found.set_array("occupancy", cell.atoms.occupancy.copy())
        found.set_array("b_angstrom2", 100.0 * cell.atoms.b_nm2)
        return found


def open_result(path: str | Path) -> OpenResult:
    """The result of a finished run, by its folder.

    **Raises:** `InputError` where there is none, or a damaged one.
    """
    folder = Path(path)
    if not (folder / RESULT).is_file():
        raise InputError(f"{folder}: found no {RESULT}, expected the folder of a finished run")
    return OpenResult(folder, RunFolder(folder).read_result())


def run(
    stage: str,
    folder: str | Path,
    settings: Mapping[str, Any],
    say: Callable[[str], None] = print,
) -> OpenResult:
    """Run a stage (or `pipeline`) as the command line does.

    **Arguments:** `settings`: options by group, as {"data": {"image": "image.npy"}}; `say` is told
    what a user should hear. 64-bit numbers have to be on: `jax.config.update("jax_enable_x64",
    True)`.

    **Raises:** `InputError` for input that cannot be used.
    """

    from qhrtem_jax.inputs.example import with_example
    from qhrtem_jax.inputs.identity import input_paths
    from qhrtem_jax.io.folder_lock import locked
    from qhrtem_jax.numerics.devices import share_cores
    from qhrtem_jax.pipeline import run as run_stage
    from qhrtem_jax.stages import run_settings

    need_float64("a run")
    given = {f"{group}.{name}" for group, inner in settings.items() for name in _names(inner)}
    content, _ = with_example({"stage": stage, **settings}, given)
    whole = run_settings(content)
    target = RunFolder(Path(folder))
    target.check(resume=whole.resume, overwrite=whole.overwrite)
    target.refuse_inputs(input_paths(whole))
    share_cores(whole.cores)
    with locked(target.path):
        run_stage(whole, target, _Told(say))
    return open_result(target.path)


def _names(inner: Any) -> list[str]:
    return list(inner) if isinstance(inner, Mapping) else []


@dataclasses.dataclass(frozen=True)
class _Told:
    """Where a run says what it has to say."""

    listener: Callable[[str], None]

    def begin(self) -> None:
        """Nothing to show yet."""

    def say(self, text: str) -> None:
        self.listener(text)

    def __call__(self, now: Any) -> None:
        """Progress is on the page."""
