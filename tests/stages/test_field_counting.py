"""Changes of numbers compared in a whole field that another multislice simulated."""

import dataclasses
import json

import numpy as np
import pytest

from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.stages import field_counting, stitch
from qhrtem_jax.stages.field_fit import FieldFit
from qhrtem_jax.stages.journal import Journal
from qhrtem_jax.stages.region_fit import RegionFit
from tests.stages.test_stitch import COLS, ROWS, imaging, stitch_settings


@pytest.fixture(scope="module")
def column(reference_dir, bto_dir, tmp_path_factory):
    """A field of four regions, one below the other: slabs as they are found first."""
    path = tmp_path_factory.mktemp("column")
    content = np.load(reference_dir / "synthetic_field.npz")
    np.save(path / "field.npy", content["noisy"][0][: 5 * ROWS, :COLS])
    known = json.loads(str(content["truth"][0]))
    (path / "imaging.json").write_text(json.dumps(imaging(known)))
    data = {
        "rois": [[ROWS * k, 0] for k in range(1, 5)],
        "noise_variance": 1.8e-4,
        "noise_correlation": [0.51, 0.08],
    }
    settings = stitch_settings(bto_dir, path, data, {})
    regions = stitch.prepare(settings).regions
    folder = RunFolder(path / "run")
    vector = regions.imaging.vector(folder, lambda progress: None)
    fit = RegionFit(regions, vector, Journal(folder, lambda progress: None))
    fit.start()
    field = FieldFit(fit)
    field.forget_unknown()
    return field


def simulated(field, near, changing=(0, 1, 2, 3)):
    """Objectives of the present numbers, of one titanium less and of one oxygen less, in the
    `changing` regions."""
    layout = field.cells
    coordinates, _ = field.coordinates()
    free = [k for k in coordinates.free if k not in field.count_indices()]
    nuisances = field.fit.bounds.coordinates(free, field.fit.simulator.simulator.dtype)
    certain = np.tile(1e12 * np.eye(len(free)), (4, 1, 1)), np.zeros((4, len(free)))
    states = [rows if k in changing else rows[:1] for k, rows in enumerate(compared(field))]
    field.cells = dataclasses.replace(layout, near=near)
    found = field_counting._simulated(field, nuisances, *certain, states)[:, :3]
    field.cells = layout
    return found


def compared(field):
    """States (regions, 3, chains)."""
    steps = np.zeros((3, field.layout.chains))
    steps[1, 4], steps[2, 6] = -1, -1
    return np.rint(field.points[:, None, field.layout.counts]) + steps


def test_objectives_are_those_of_the_whole_field(column):
    """With nuisances that are certain nothing but the simulations differs."""
    found = simulated(column, np.ones((4, 4), dtype=bool))

    def objective(k, counts):
        difference = column.cut(column.image_with({k: counts})) - column.targets
        white = np.asarray(column.model.whiten(difference), float)
        return np.sum(white**2) + column.constraints.penalty(counts)

    for k, states in enumerate(compared(column)):
        expected = [objective(k, counts) for counts in states]
        np.testing.assert_allclose(found[k], expected, rtol=1e-5)


def test_regions_that_change_together_are_compared_as_alone(column):
    near = column.cells.near
    assert [0, 3] in column.cells.apart()
    alone = simulated(column, np.ones((4, 4), dtype=bool))
    evaluations = column.journal.evaluations
    together = simulated(column, near)
    assert column.journal.evaluations - evaluations == 1 + 3 * 2
    assert np.all(np.abs(alone[:, 1:] - alone[:, :1]) > 5.0)
    np.testing.assert_allclose(together - together[:, :1], alone - alone[:, :1], atol=0.2)


def test_changes_that_reach_further_than_thought_are_compared_alone(column):
    alone = simulated(column, np.ones((4, 4), dtype=bool))
    # as if no region saw another: what the two in between see tells otherwise
    blind = simulated(column, np.eye(4, dtype=bool), changing=(0, 3))[[0, 3]]
    np.testing.assert_allclose(blind - blind[:, :1], (alone - alone[:, :1])[[0, 3]], atol=1e-3)
