"""A field to first order, and numbers found all together, in a field of another multislice."""

import dataclasses
import json

import numpy as np
import pytest

from qhrtem_jax.field import counting as field_counting
from qhrtem_jax.field.fit import FieldFit
from qhrtem_jax.field.linear import FieldLinear
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.regions.fit import RegionFit
from tests import truth
from tests.runs import prepared
from tests.stages.test_stitch import COLS, ROWS, imaging, stitch_settings

REGIONS = 4


@dataclasses.dataclass
class Column:
    """A field of four regions, one below the other, at its true numbers."""

    field: FieldFit
    linear: FieldLinear
    numbers: np.ndarray

    def residuals(self, numbers):
        points = self.field.points
        self.field.points = points.copy()
        self.field.points[:, self.field.layout.counts] = numbers
        found = self.field.residuals()
        self.field.points = points
        return found


@pytest.fixture(scope="module")
def column(reference_dir, bto_dir, tmp_path_factory):
    path = tmp_path_factory.mktemp("column")
    content = np.load(reference_dir / "synthetic_field.npz")
    np.save(path / "field.npy", content["noisy"][0][: (REGIONS + 1) * ROWS, :COLS])
    known = json.loads(str(content["truth"][0]))
    (path / "imaging.json").write_text(json.dumps(imaging(known)))
    data = {
        "rois": [[ROWS * k, 0] for k in range(1, REGIONS + 1)],
        "noise_variance": 1.8e-4,
        "noise_correlation": [0.51, 0.08],
    }
    settings = stitch_settings(bto_dir, path, data, {})
    regions = prepared(settings).regions
    folder = RunFolder(path / "run")
    vector = regions.imaging
    fit = RegionFit(regions, vector, Journal(folder, lambda progress: None))
    fit.start()
    rois = {tuple(roi["origin_px"]): roi for roi in known["rois"]}
    chains = truth.chain_order(fit.columns, known["column_order"])
    numbers = np.zeros((REGIONS, len(chains)))
    for k, region in enumerate(regions.regions):
        roi = rois[tuple(region.origin)]
        numbers[k, chains] = roi["counts"]
        surplus = fit.sites.stack - roi["exit_slice"] + roi["entrance_slice"]
        fit.points[k, INDEX["C1"]] = roi["C1_roi"] - surplus * known["slice_nm"]
    fit.points[:, fit.layout.counts] = numbers
    fit.relaxed_points = fit.points
    field = FieldFit(fit)
    field.settled = True
    field.points = field.snapped()
    field.forget_unknown()
    field.explain_unknown(20)
    return Column(field, FieldLinear(field), numbers)


def some_changes(column):
    """True numbers with changes in three regions that touch."""
    numbers = column.numbers.copy()
    numbers[0, 4] += 1
    numbers[1, [6, 7]] += [-1, 1]
    numbers[2, 0] -= 1
    return numbers


def test_changes_of_several_regions_add_up(column):
    """Vectors are made one change at a time; all of them together do what they foretell."""
    field, linear = column.field, column.linear
    numbers = some_changes(column)
    made = linear.empty.amounts(numbers.reshape(1, -1))[0]
    assert np.count_nonzero(made) == 4
    here, there = field.residuals(), column.residuals(numbers)
    foretold = here.copy()
    for k, block in enumerate(linear.blocks):
        changes = block.index < linear.count
        foretold[k] += made[block.index[changes]] @ block.vectors[changes]
    change = np.sum((there - here) ** 2)
    assert change > 100.0
    assert np.sum((foretold - there) ** 2) < 0.02 * change
    # the products say the same of chi-square
    count = linear.count
    products = np.zeros(len(linear.gram))
    for block, r in zip(linear.blocks, here, strict=True):
        products[block.index] += block.vectors @ r
    gram = linear.gram[:count, :count]
    expected = np.sum(here**2) + 2.0 * made @ products[:count] + made @ gram @ made
    assert np.sum(there**2) == pytest.approx(expected, abs=0.05 * change)


@pytest.mark.parametrize("name", ["C1", "image_spread", "absorption", "shift", "mtf_scale"])
def test_derivatives_are_those_of_the_field(column, name):
    field, linear = column.field, column.linear
    others = {"shift": field.layout.shifts.start + 3, "mtf_scale": field.layout.mtf_stretch.start}
    index = others[name] if name in others else INDEX[name]
    p = linear.coordinates.free.index(index)
    own = p < linear.own
    assert own == (name in ("absorption", "shift"))
    regions = [1] if own else list(range(REGIONS))
    steps = {"C1": 0.02, "image_spread": 2e-4, "absorption": 1e-3, "shift": 5e-4}
    step = steps.get(name, 0.01)
    ends, points = [], field.points
    for sign in (1.0, -1.0):
        field.points = points.copy()
        field.points[regions, index] += sign * step
        ends.append(field.residuals())
    field.points = points
    numeric = (ends[0] - ends[1]) / (2.0 * step) * float(linear.coordinates.width[p])
    at = linear.count + (linear.own + p if own else (REGIONS - 1) * linear.own + p)
    for k, block in enumerate(linear.blocks):
        found = block.vectors[block.index == at]
        if not len(found):  # too far from what moves
            assert own
            assert np.max(np.abs(numeric[k])) < 0.02 * np.max(np.abs(numeric))
            continue
        np.testing.assert_allclose(found[0], numeric[k], atol=0.01 * np.max(np.abs(numeric)))


def gain_left(linear):
    """What the best step of the nuisances is foretold to take off the objective."""
    situation = linear._situation()
    return float(situation.slope @ situation.inverse @ situation.slope)


def test_steps_end_where_the_model_sees_no_more_gain(column):
    field, linear = column.field, column.linear
    points = field.points
    before = field.objective()
    foretold = gain_left(linear)
    found = field_counting._settle(field, linear, "test")
    assert before - found == pytest.approx(foretold, abs=0.2 * foretold)
    assert gain_left(linear) < 0.01 * foretold
    assert foretold > 100.0
    field.points = points


def test_changes_that_reach_further_than_thought_are_simulated_alone(column):
    field, cells = column.field, column.field.cells
    assert [0, 3] in cells.apart()
    field.cells = dataclasses.replace(cells, near=np.eye(REGIONS, dtype=bool))
    assert field.cells.apart() == [[0, 1, 2, 3]]
    blind = FieldLinear(field)
    field.cells = cells
    count = len(blind.changes)
    order = {tuple(c): k for k, c in enumerate(blind.changes)}
    same = [order[tuple(c)] for c in column.linear.changes]
    gram = column.linear.gram[: len(same), : len(same)]
    np.testing.assert_allclose(blind.gram[np.ix_(same, same)], gram, atol=0.02 * gram.max())
    assert count == len(same)
    # so are the parameters of the regions
    own = REGIONS * blind.own
    one, other = (np.diagonal(x.gram)[x.count :][:own] for x in (blind, column.linear))
    np.testing.assert_allclose(one, other, rtol=0.05, atol=1e-3 * other.max())


def test_several_wrong_numbers_are_found_together(column):
    field, linear = column.field, column.linear
    start, unknown = field.points, field.unknown
    at_truth = field_counting._settle(field, linear, "truth")
    settled = field.points
    field.points = settled.copy()
    field.points[:, field.layout.counts] = some_changes(column)
    counts = field_counting.certify(field, np.ones(column.numbers.shape, dtype=bool), 2)
    found = np.rint(field.points[:, field.layout.counts])
    objective = field.objective()
    field.points, field.unknown = start, unknown
    assert objective < at_truth + 1.0
    probability = np.array(
        [
            counts.probabilities[k][c].get(int(n), 0.0)
            for k, row in enumerate(column.numbers)
            for c, n in enumerate(row)
        ]
    )
    # a number may be another than the true one only where the image leaves that open
    wrong = found != column.numbers
    assert np.sum(wrong) <= 2
    assert np.all(probability > 0.02)
    assert np.mean(-np.log(probability)) < 0.15
    assert counts.certified.all()
