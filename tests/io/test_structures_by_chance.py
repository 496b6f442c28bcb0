"""Whatever is in a file: a sound crystal, or one message."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qhrtem_jax.errors import InputError
from qhrtem_jax.io.models import AtomModel, write_model
from qhrtem_jax.io.structures import read_unit_cell
from qhrtem_jax.physics.scattering import atomic_number
from qhrtem_jax.physics.specimen import Atoms
from tests.io.good_structures import BTO_CEL, LINBO3, STO
from tests.io.mutated_structures import mutated

SOURCES = {"sto.cif": STO, "linbo3.cif": LINBO3, "bto.cel": BTO_CEL}
QUIET = {
    "deadline": None,
    "derandomize": True,
    "suppress_health_check": [HealthCheck.function_scoped_fixture],
}


@pytest.mark.parametrize("name", SOURCES)
@settings(max_examples=100, **QUIET)
@given(seed=st.integers(0, 2**32))
def test_a_damaged_file_is_refused_or_sound(tmp_path, name, seed):
    path = tmp_path / name
    path.write_bytes(mutated(SOURCES[name], seed))
    try:
        cell = read_unit_cell(path)
    except InputError as error:
        message = str(error)
    else:
        message = ""
    if message:
        assert str(path) in message
        assert "\n" not in message
        return
    atoms = cell.atoms
    assert np.all(np.isfinite([*cell.lengths_nm, *cell.angles_deg, cell.volume_nm3]))
    assert np.all(np.isfinite(atoms.positions))
    assert np.all((atoms.occupancy >= 0) & (atoms.occupancy <= 1))
    assert np.all(np.isfinite(atoms.b_nm2) & (atoms.b_nm2 >= 0))
    assert all(atomic_number(symbol) > 0 for symbol in atoms.symbols)


@st.composite
def models(draw):
    """Right-angled cells with atoms on some nodes of a grid, a little beside them."""
    size = tuple(draw(st.floats(0.4, 3.0)) for _ in range(3))
    nodes = st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2))
    places = np.array(draw(st.lists(nodes, min_size=1, max_size=12, unique=True))) / 3.0
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    count = len(places)
    symbols = tuple(draw(st.sampled_from(["H", "O", "Ti", "Sr", "Ba", "U"])) for _ in places)
    positions = places + rng.uniform(0.0, 0.05, (count, 3))
    return size, Atoms(symbols, positions, rng.uniform(0, 1, count), rng.uniform(0, 0.05, count))


@pytest.mark.parametrize("suffix", [".cel", ".cif"])
@settings(max_examples=30, **QUIET)
@given(model=models())
def test_what_is_written_is_read_back(tmp_path, suffix, model):
    size, atoms = model
    write_model(tmp_path / "model", AtomModel(size, atoms, "found 'by' chance; \"so\""))
    cell = read_unit_cell((tmp_path / "model").with_suffix(suffix))
    assert cell.angles_deg == (90.0, 90.0, 90.0)
    assert cell.atoms.symbols == atoms.symbols
    np.testing.assert_allclose(cell.lengths_nm, size, atol=1e-6)
    np.testing.assert_allclose(cell.atoms.positions, atoms.positions, atol=2e-6)
    np.testing.assert_allclose(cell.atoms.occupancy, atoms.occupancy, atol=1e-6)
    np.testing.assert_allclose(cell.atoms.b_nm2, atoms.b_nm2, atol=1e-6)
