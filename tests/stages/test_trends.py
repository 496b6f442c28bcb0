"""What trends are of, and how they are shown."""

import numpy as np
import pytest

from qhrtem_jax.field.result import Trend, TrendLine
from qhrtem_jax.field.trend_drawings import draw_trends, trend_table
from qhrtem_jax.field.trends import quantities
from qhrtem_jax.physics.columns import columns_of
from qhrtem_jax.physics.specimen import Atoms, Crystal


def columns(oxygen_y):
    """A cell of two layers along y, as BaTiO3 [100]: Ba and O beside each other at y near 0, Ti and
    O at 0.5."""
    places = [("Ba", 0.1, 0.0), ("O", 0.6, oxygen_y), ("Ti", 0.6, 0.5), ("O", 0.1, 0.5)]
    positions = np.array([[x, y, 0.25] for _, x, y in places])
    symbols = tuple(symbol for symbol, _, _ in places)
    atoms = Atoms(symbols, positions, np.ones(4), np.full(4, 0.005))
    return columns_of(Crystal((0.4, 0.4, 0.2), atoms, 2))


@pytest.mark.parametrize("oxygen_y", [0.0, 0.02, 0.98])
def test_layers_are_those_of_a_cell_that_is_repeated(oxygen_y):
    cell = columns(oxygen_y)
    found = {q.name: q for q in quantities(cell)}
    along_y = [name for name in found if "y = " in name]
    mean = (0.5 * oxygen_y if oxygen_y < 0.5 else 0.5 * (oxygen_y + 1.0)) % 1.0
    low, high = sorted((mean, 0.5))
    assert along_y == [
        f"rumpling of the layer at y = {low:.3f}",
        f"rumpling of the layer at y = {high:.3f}",
        f"distance of the layers at y = {low:.3f} and {high:.3f}",
    ]
    shifts = {("Ba", 0.1): 3.0, ("O", 0.6): -1.0, ("Ti", 0.6): 5.0, ("O", 0.1): 0.5}  # pm along y
    moved = np.zeros(len(cell.xy))
    for chain in cell.chains:
        moved[chain.column] = shifts[chain.symbol, round(float(cell.xy[chain.column, 0]), 3)]
    value = {name: float(found[name].weights @ moved) for name in along_y}
    assert value[f"rumpling of the layer at y = {mean:.3f}"] == pytest.approx(4.0)
    assert value["rumpling of the layer at y = 0.500"] == pytest.approx(4.5)
    apart = 0.5 * (5.0 + 0.5) - 0.5 * (3.0 - 1.0)
    assert value[along_y[2]] == pytest.approx(apart if mean < 0.5 else -apart)


def trend(edge):
    line = TrendLine(2.0, 0.5, 0.03, 1.0, 0.4, 0.1, 0.7)
    values, std = (0.0, 1.5, 2.0, 9.0), (0.5, 0.5, 0.4, None)
    return Trend("Ti against O, along y", values, std, (1.0, 2.0, 3.0, 4.0), edge, line, None)


def test_lines_are_shown_with_their_errors(tmp_path):
    table = trend_table([trend(None)])
    assert table is not None
    (row,) = table.rows
    assert row[0] == "Ti against O, along y"
    assert row[3:] == ["thickness", "2.00 ± 0.50", "0.03"]
    for edge in (None, (0.1, 0.2, 0.3, 0.4)):
        path = tmp_path / "trends.png"
        draw_trends(path, [trend(edge)])
        assert path.stat().st_size > 5000
        assert path.with_suffix(".pdf").is_file()
