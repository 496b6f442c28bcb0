"""How the atoms of a run vibrate."""

import dataclasses
from pathlib import Path

import jax
import numpy as np

from qhrtem_jax.errors import InputError
from qhrtem_jax.inputs.instrument import simulated_as
from qhrtem_jax.inputs.naming import named
from qhrtem_jax.inputs.reader import Reader
from qhrtem_jax.inputs.settings import Settings
from qhrtem_jax.io.structures import right_angled
from qhrtem_jax.io.trajectory import read_trajectory
from qhrtem_jax.physics.autogrid import GridChoice
from qhrtem_jax.physics.camera import Frame
from qhrtem_jax.physics.frozen import FrozenSimulator, make_frozen, tiles_of
from qhrtem_jax.physics.microscope import Microscope
from qhrtem_jax.physics.specimen import Atoms, Crystal

SAME_CELL = 0.03
"""Relative difference between a trajectory's cell and whole cells: crystals expand and are relaxed,
but by less."""


@dataclasses.dataclass(frozen=True)
class Vibrations:
    """Cells (rows, cols) that vibrate independently; how many displaced lattices the mean is over;
    perhaps these."""

    tiles: tuple[int, int]
    configurations: int
    snapshots: tuple[Crystal, ...] | None


def load_vibrations(settings: Settings, crystal: Crystal, reader: Reader) -> Vibrations | None:
    """What `specimen.phonons=frozen` asks for; None without it.

    **Raises:** `InputError` for a trajectory that cannot be used.
    """
    known = settings.specimen
    if known.phonons != "frozen":
        return None
    if known.trajectory is not None:
        return _of_trajectory(settings, crystal, reader)
    chosen = known.phonon_cells
    if not np.any(crystal.atoms.b_nm2 > 0.0):
        reader.warn(
            "specimen.phonons=frozen: all Debye-Waller factors are 0, so nothing vibrates; "
            "specimen.b_nm2 sets them"
        )
    tiles = chosen if isinstance(chosen, tuple) else tiles_of(crystal)
    return Vibrations(tiles, known.configurations, None)


def _of_trajectory(settings: Settings, crystal: Crystal, reader: Reader) -> Vibrations:
    name = settings.specimen.trajectory
    assert name is not None
    option = "specimen.trajectory"
    if isinstance(settings.specimen.phonon_cells, tuple):
        raise InputError(
            f"specimen.phonon_cells: found {list(settings.specimen.phonon_cells)} beside "
            "specimen.trajectory, whose cell says it"
        )
    with named(option):
        cells = reader.once(("trajectory", name), lambda: read_trajectory(Path(name), option))
    if len(cells) < 2:
        raise InputError(
            f"{option}: {name} has {len(cells)} frame, expected two or more to average"
        )
    # neighbouring frames are alike: as far apart as possible
    many = min(settings.specimen.configurations, len(cells))
    chosen = np.rint(np.linspace(0, len(cells) - 1, many)).astype(int)
    if many < settings.specimen.configurations:
        reader.warn(
            f"{option}: {name} has {many} frames, which are the configurations "
            f"(specimen.configurations={settings.specimen.configurations})"
        )
    own = np.array(crystal.size_nm)
    snapshots, times = [], None
    for number, cell in ((int(k) + 1, cells[k]) for k in chosen):
        with named(f"{option}, frame {number}"):
            right_angled(Path(name), cell)
        found = np.maximum(np.rint(np.array(cell.lengths_nm) / own), 1.0)
        times = found if times is None else times
        off = np.abs(np.array(cell.lengths_nm) / (times * own) - 1.0)
        if off.max() > SAME_CELL:
            raise InputError(
                f"{option}, frame {number}: {name} has a cell of {_nm(cell.lengths_nm)}, expected "
                f"whole cells of specimen.structure, {_nm(crystal.size_nm)}, as many in all frames"
            )
        elements = [sorted(set(atoms.symbols)) for atoms in (cell.atoms, crystal.atoms)]
        if not set(elements[0]) <= set(elements[1]):
            raise InputError(
                f"{option}, frame {number}: {name} has atoms of {', '.join(elements[0])}, expected "
                f"those of specimen.structure, {', '.join(elements[1])}"
            )
        atoms = cell.atoms
        still = Atoms(atoms.symbols, atoms.positions, atoms.occupancy, np.zeros_like(atoms.b_nm2))
        width, height, depth = (float(n) for n in times * own)
        snapshots.append(Crystal((width, height, depth), still, int(times[2]) * crystal.slices))
    assert times is not None
    return Vibrations((int(times[1]), int(times[0])), many, tuple(snapshots))


def _nm(lengths: tuple[float, float, float]) -> str:
    return " x ".join(f"{length:.4f}" for length in lengths) + " nm"


def build_frozen(
    settings: Settings,
    crystal: Crystal,
    microscope: Microscope,
    frame: Frame,
    choice: GridChoice,
    slices: int,
    vibrations: Vibrations,
) -> FrozenSimulator:
    """The simulator of a run whose atoms vibrate."""
    return make_frozen(
        crystal,
        microscope,
        frame,
        slices=slices,
        configurations=vibrations.configurations,
        seed=settings.seed,
        tiles=vibrations.tiles,
        snapshots=vibrations.snapshots,
        # a CPU works best on one wave at a time (its cache)
        batch=1 if jax.default_backend() == "cpu" else 8,
        **simulated_as(settings, choice),
    )
