"""Uncertainties of models, from those of columns."""

import numpy as np

from qhrtem_jax.physics.columns import columns_of
from qhrtem_jax.physics.structured import Layout
from qhrtem_jax.reporting.column_tables import Column, Estimate, cell_model, model_structure
from tests.physics import crystal as sto


def test_each_atom_has_the_uncertainties_of_its_column():
    columns = columns_of(sto.crystal())
    layout = Layout(len(columns.xy), len(columns.chains))
    point = layout.point(sto.vector(), np.zeros((layout.columns, 2)), np.ones(8), np.ones(8))
    table = [
        Column(x, y, 0.0, 0.0, 2.0 + k, None if k else 5.0, {})
        for k, (x, y) in enumerate(columns.xy)
    ]
    for k, chain in enumerate(columns.chains):
        table[chain.column].occupancy[chain.symbol] = Estimate(1.0, 0.01 * (k + 1))
    atoms = model_structure(columns, layout, point)
    model = cell_model(columns, atoms, table)
    owners = [(k, chain) for k, chain in enumerate(columns.chains) for _ in chain.z]
    assert list(atoms.symbols) == [chain.symbol for _, chain in owners]
    for n, (k, chain) in enumerate(owners):
        # pm against the cell's edge in nm
        assert np.isclose(model.std_xy[n, 0], (2.0 + chain.column) * 1e-3 / columns.size_nm[0])
        along_y = 5.0e-3 / columns.size_nm[1] if chain.column == 0 else np.nan
        np.testing.assert_allclose(model.std_xy[n, 1], along_y)
        assert np.isclose(model.std_occupancy[n], 0.01 * (k + 1))
