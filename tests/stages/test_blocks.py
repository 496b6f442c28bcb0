"""Blocks of a field's regions."""

import numpy as np

from qhrtem_jax.field.blocks import blocks_of
from qhrtem_jax.field.layout import FieldLayout


def test_every_number_is_told_by_one_block():
    rows, cols = 7, 5
    cells = np.arange(rows * cols)[7:]  # the first row and more is vacuum
    places = np.stack(np.divmod(cells, cols), axis=1)
    near = np.abs(places[:, None] - places).max(axis=2) <= 1
    none = np.zeros(0, int)
    layout = FieldLayout((rows, cols), cells, none, none, near, np.zeros((len(cells), 0), bool))
    for size in ("auto", (3, 3), (2, 5), (100, 1), (1, 1)):
        blocks = blocks_of(layout, size)
        cores = np.concatenate([block.core for block in blocks])
        np.testing.assert_array_equal(np.sort(cores), np.arange(len(cells)))
        for block in blocks:
            most = (3, 3) if size == "auto" else size
            assert np.all(np.ptp(places[block.core], axis=0) < most)
            beside = near[block.core].any(axis=0)
            np.testing.assert_array_equal(block.opened, np.flatnonzero(beside))
    assert len(blocks_of(layout, (100, 100))) == 1
    assert len(blocks_of(layout, (1, 1))) == len(cells)
    small = FieldLayout(
        (rows, cols), cells[:25], none, none, near[:25, :25], np.zeros((25, 0), bool)
    )
    assert len(blocks_of(small, "auto")) == 1
