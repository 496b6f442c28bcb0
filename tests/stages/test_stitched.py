"""Regions stitched by their C1: the rules of the paper, and the image that follows."""

import dataclasses

import numpy as np
import pytest

from qhrtem_jax.field.model import FieldModel, JointState, field_model
from qhrtem_jax.field.simulate import C1, first_state, image, plane_vector
from qhrtem_jax.field.stitched import stitch, stitched_image
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.io.models import AtomModel, write_model
from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.regions.fit import full_remarks, start
from qhrtem_jax.regions.model import RegionState, exit_vector, regions_model
from qhrtem_jax.stages import run_settings
from tests import wedge
from tests.runs import computed, prepared

REGIONS = 2


@dataclasses.dataclass
class Field:
    """Two regions at their true numbers, all crystal with the same absorption."""

    model: FieldModel
    points: np.ndarray
    journal: Journal

    def state(self, c1_slices=(0.0, 0.0)) -> JointState:
        """With the regions' C1 moved by so many slices."""
        points = self.points.copy()
        points[:, C1] += np.array(c1_slices) * self.model.columns.slice_nm
        return first_state(
            self.model, RegionState(points, points, self.model.regions.first_weights)
        )

    def stitched(self, rounding, c1_slices=(0.0, 0.0), global_c1="mean"):
        return stitch(self.model, self.state(c1_slices), rounding, global_c1)

    def image(self, rounding, c1_slices=(0.0, 0.0), global_c1="mean"):
        made = self.stitched(rounding, c1_slices, global_c1)
        return stitched_image(self.model, made, self.journal)

    def exit_c1(self, c1_slices=(0.0, 0.0)):
        points = self.state(c1_slices).points
        return np.array([exit_vector(self.model.regions, p)[C1] for p in points])


@pytest.fixture(scope="module")
def field(tmp_path_factory) -> Field:
    path = tmp_path_factory.mktemp("stitched")
    problem = prepared(wedge.settings(path, REGIONS, specimen={"max_cells": 5})).regions
    journal = Journal(RunFolder(path / "run"), lambda progress: None)
    fit = regions_model(problem, problem.imaging)
    points = start(fit, journal).points.copy()
    truth = wedge.TRUTH["rois"][:REGIONS]
    points[:, fit.layout.counts] = wedge.numbers(fit.columns, truth)
    points[:, INDEX["absorption"]] = 0.02
    # its envelope is that of the plane to which C1 refers, which the two simulators choose apart
    points[:, INDEX["semi_convergence"]] = 0.0
    # whole repeating units apart, so that all rules agree
    lowest = points[0, C1]
    points[:, C1] = lowest + np.array([0.0, -1.0]) * fit.columns.size_nm[2]
    shifts = np.random.default_rng(0).normal(0.0, 0.004, points[:, fit.layout.shifts].shape)
    points[:, fit.layout.shifts] = shifts
    return Field(field_model(fit), points, journal)


def test_columns_that_begin_deeper_are_stitched_so(field):
    """A step of the entrance face between columns of a region."""
    flat = field.state()
    begins = flat.stack.begins.copy()
    begins[1, [chain.column in (0, 2) for chain in field.model.columns.chains]] += 1
    begins *= field.model.per_cell
    state = dataclasses.replace(flat, stack=dataclasses.replace(flat.stack, begins=begins))
    expected = image(field.model, state, field.journal)
    assert np.std(expected - image(field.model, flat, field.journal)) > 3e-3
    found = stitched_image(field.model, stitch(field.model, state, "cell", "mean"), field.journal)
    assert np.std(found - expected) < 3e-5


@pytest.mark.parametrize("rounding", ["cell", "slice", "none"])
@pytest.mark.parametrize("global_c1", ["mean", "minimum"])
def test_whole_units_are_stitched_alike_by_every_rule(field, rounding, global_c1):
    """As the simulator of the joint refinement has it, which knows no other heights."""
    expected = image(field.model, field.state(), field.journal)
    found = field.image(rounding, global_c1=global_c1)
    assert np.std(expected) > 0.05
    # the image shift moves atoms against a coarse grid in one of them
    assert np.std(found - expected) < 3e-5
    np.testing.assert_allclose(found, expected, atol=3e-4)
    made = field.stitched(rounding, global_c1=global_c1)
    plane = plane_vector(field.model, field.state())
    assert made.vector[C1] == pytest.approx(plane[C1], abs=1e-6)


def test_true_heights_follow_from_true_c1(field):
    """Of the regions that abTEM simulated."""
    truth, slice_nm = wedge.TRUTH["rois"][:REGIONS], field.model.columns.slice_nm
    exits = np.array([roi["exit_slice"] for roi in truth])
    wanted = np.array([roi["C1_roi"] for roi in truth])
    off = (wanted - field.exit_c1()) / slice_nm
    for rounding in ("cell", "slice", "none"):
        made = field.stitched(rounding, off)
        np.testing.assert_allclose(made.shifts_slices, exits.max() - exits, atol=1e-3)
        assert made.vector[C1] == pytest.approx(wanted.min(), abs=1e-3)


MOVED = (0.4, 0.0)


def test_heights_are_rounded_as_the_rule_says(field):
    whole = field.stitched("cell").shifts_slices
    assert min(whole) == 0.0
    c1 = field.exit_c1(MOVED)
    slice_nm = field.model.columns.slice_nm
    free = field.stitched("none", MOVED)
    np.testing.assert_allclose(free.shifts_slices, (c1 - c1.min()) / slice_nm, atol=1e-9)
    assert free.vector[C1] == pytest.approx(c1.min())
    np.testing.assert_allclose(free.shifts_slices - whole, MOVED, atol=1e-9)
    for rounding in ("slice", "cell"):
        np.testing.assert_array_equal(field.stitched(rounding, MOVED).shifts_slices, whole)
    up = field.stitched("slice", (0.8, 0.0)).shifts_slices
    np.testing.assert_allclose(up - whole, (1.0, 0.0), atol=1e-9)


def test_the_smallest_c1_is_the_global_one(field):
    for rounding in ("slice", "cell"):
        smallest = field.stitched(rounding, MOVED, "minimum").vector[C1]
        assert smallest == pytest.approx(field.exit_c1(MOVED).min())
        mean = field.stitched(rounding, MOVED, "mean").vector[C1]
        assert mean - smallest == pytest.approx(0.2 * field.model.columns.slice_nm)


def test_heights_act_on_the_image(field):
    """Half a slice higher is half of what a slice does; rounding decides between none and one."""
    images = {up: field.image("none", (up, 0.0)) for up in (0.0, 0.5, 1.0)}
    effect = np.std(images[1.0] - images[0.0])
    assert effect > 0.001
    middle = 0.5 * (images[0.0] + images[1.0])
    assert np.std(images[0.5] - middle) < 0.1 * effect
    for up in (0.0, 1.0):
        rounded = field.image("slice", (0.2 + 0.6 * up, 0.0), "minimum")
        assert np.std(rounded - images[up]) < 0.02 * effect


def test_what_it_reports_simulates_to_the_image_that_it_gives(field, tmp_path):
    """Stage `simulate` on the stitched crystal, at the reported C1 and absorption."""
    grid = {"max_cells": 5, "grid": "auto", "grid_error": 1e-4}
    settings = wedge.settings(tmp_path, REGIONS, specimen=grid)
    problem = prepared(settings).regions
    finer = dataclasses.replace(field, model=field_model(regions_model(problem, problem.imaging)))
    stitched, simulation = finer.stitched("slice"), finer.image("slice")
    crystal = stitched.crystal
    model = AtomModel(crystal.size_nm, crystal.atoms, "stitched")
    write_model(tmp_path / "stitched", model)
    names = ("C1", "absorption", "thickness")
    known = wedge.handed_over()["parameters"] | {n: {"value": 0.0} for n in ("A0_x", "A0_y")}
    known |= {name: {"value": float(stitched.vector[INDEX[name]])} for name in names}
    known["semi_convergence"] = {"value": 0.0}
    content = {
        "stage": "simulate",
        "data": {
            "shape": list(simulation.shape),
            "sampling_nm": wedge.TRUTH["sampling_nm"],
            "mtf": settings.data.mtf,
        },
        "specimen": {
            "structure": str(tmp_path / "stitched.cel"),
            "slices": crystal.slices,
            "grid_error": 1e-4,
            "scattering": "lobato",
        },
        "microscope": {"aberration_convention": "drprobe"},
        "parameters": known,
    }
    _, again = computed(prepared(run_settings(content)), tmp_path / "again")
    assert np.std(simulation) > 0.05
    missed = again["image"][0] - simulation
    assert np.std(missed) < 1.5e-4  # the errors of both grids


def test_regions_that_fill_the_stack_are_named(field):
    regions, points = field.model.regions, field.points.copy()
    assert full_remarks(regions, points) == ()
    points[1, regions.layout.counts.start] = regions.most[0]
    assert full_remarks(regions, points) == (
        "ROI2: a column fills all 5 cells that are allowed: allow more",
    )
