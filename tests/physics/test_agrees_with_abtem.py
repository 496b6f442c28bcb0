"""Exit waves against abTEM with the same published scattering factors."""

import warnings

import jax
import numpy as np
import pytest

from qhrtem_jax.physics.microscope import Microscope
from qhrtem_jax.physics.simulator import make_simulator
from tests.physics import crystal


@pytest.mark.parametrize("scattering", ["lobato", "kirkland"])
def test_exit_waves(scattering):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("abtem")
        from benchmarks.references.abtem_exit_wave import Atom, Cell, abtem_exit_waves

        ours = crystal.crystal()
        numbers = {"Sr": 38, "Ti": 22, "O": 8}
        atoms = tuple(
            Atom(numbers[s], x, y, int(k), b)
            for s, (x, y, _), k, b in zip(
                ours.atoms.symbols,
                ours.atoms.positions,
                ours.slice_of_atoms(),
                ours.atoms.b_nm2,
                strict=True,
            )
        )
        theirs = abtem_exit_waves(
            Cell(ours.size_nm, 4, atoms), (64, 48), [6, 16], scattering=scattering
        )
    simulator = make_simulator(
        ours,
        Microscope(),
        crystal.FRAME,
        grid_shape=(48, 64),
        slices=16,
        scattering=scattering,
        precision="float64",
    )
    vectors = np.stack([crystal.vector(absorption=0.0, thickness=t) for t in (6, 16)])
    waves = np.asarray(jax.vmap(simulator.exit_wave)(vectors))
    for wave, reference in zip(waves, theirs, strict=True):
        assert np.sqrt(np.mean(np.abs(wave - reference) ** 2)) < 1e-5
