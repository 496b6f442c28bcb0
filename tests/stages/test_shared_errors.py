"""Imaging parameters that are not known exactly, in regions that are counted one by one."""

import dataclasses
import json

import numpy as np
import pytest

from qhrtem_jax.errors import InputError
from qhrtem_jax.inputs.handover import HandedErrors, HandedImaging, handed_imaging
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.refine.regions import ALL_KNOWN, Shared
from qhrtem_jax.regions.fit import count, relax, start
from qhrtem_jax.regions.model import RegionsModel, RegionState, fitter, regions_model
from qhrtem_jax.stages import run_settings
from tests import wedge
from tests.runs import prepared

REGIONS = 2
STD = {"tilt_x": 0.6, "tilt_y": 0.6, "A1_x": 0.3, "A1_y": 0.3, "image_spread": 1e-3}
"""How little is known, so that what the parameters do exceeds the noise several times."""


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> RegionsModel:
    path = tmp_path_factory.mktemp("shared")
    settings = wedge.settings(
        path, REGIONS, specimen={"max_cells": 5}, reconstruct={"max_evaluations": 0, "passes": 1}
    )
    problem = prepared(settings).regions
    assert problem.imaging is not None
    assert problem.imaging.errors is None  # the file that hands over says nothing of errors
    names, std = tuple(STD), np.array(list(STD.values()))
    errors = HandedErrors(names, np.outer(std, std) * (0.4 + 0.6 * np.eye(len(std))))
    vector = problem.imaging.vector.copy()
    vector[[INDEX[name] for name in names]] += std * np.array([1.2, -0.9, 1.1, -1.3, 0.8])
    return regions_model(problem, HandedImaging(vector, errors))


def objectives(model: RegionsModel, state: RegionState, journal: Journal) -> list[dict]:
    """Of each region, the objective of every state that was compared."""
    counted = count(model, state, journal).counted
    assert counted is not None
    return [
        {row.tobytes(): value for row, value in zip(states, chi2, strict=True)}
        for states, chi2 in zip(counted.states, counted.chi2, strict=True)
    ]


def test_states_are_compared_at_their_best_imaging_parameters(model, tmp_path):
    """No state is worse where the parameters may move, and differences between states shrink: what
    the parameters could have done is no reason for a number."""
    journal = Journal(RunFolder(tmp_path / "run"), lambda progress: None)
    state = relax(model, start(model, journal), journal)
    exact = objectives(dataclasses.replace(model, shared=ALL_KNOWN), state, journal)
    free = objectives(model, state, journal)
    for one, other in zip(exact, free, strict=True):
        common = sorted(set(one) & set(other))
        assert len(common) > 50
        before = np.array([one[key] for key in common])
        after = np.array([other[key] for key in common])
        likely = np.isfinite(before) & (before < np.min(before) + 1e4)
        assert np.all(after[likely] < before[likely] + 1e-3)
        assert np.std(after[likely]) < 0.9 * np.std(before[likely])


def test_objectives_are_those_at_the_best_imaging_parameters(model):
    """What `variations` says of a direction is what moving the parameters does."""
    layout, fit = model.layout, fitter(model, model.first_weights)
    point = layout.point(
        model.vector,
        np.zeros((layout.columns, 2)),
        model.columns.numbers_of_slices(12).astype(float),
        np.ones(layout.chains),
    )
    target, some = model.targets[:1], np.zeros((1, 1, layout.chains))
    found = fit.variations(model.nuisances, point[None], target, some, shared=model.shared)
    own = len(model.nuisances.free)
    assert found.slopes.shape[1] == own + len(STD)
    for k, direction in enumerate(model.shared.directions):
        ends = []
        for sign in (1.0, -1.0):
            moved = point.copy()
            moved[list(model.shared.index)] += sign * 1e-2 * direction
            image = fit.images(moved[None])[0]
            ends.append(np.asarray(fit.likelihood.residual(image, target[0]), float))
        numeric = (ends[0] - ends[1]) / 2e-2
        residual = 0.5 * (ends[0] + ends[1])
        expected = numeric @ numeric
        assert found.hessian[0][own + k, own + k] == pytest.approx(expected, rel=2e-2)
        assert found.slopes[0][own + k, 0] == pytest.approx(
            numeric @ residual, abs=2e-2 * np.sqrt(expected) * np.linalg.norm(residual)
        )


def test_directions_make_up_the_covariance(model):
    known = np.array([[0.04, 0.03], [0.03, 0.09]])
    errors = HandedErrors(("C1", "tilt_x", "B2_x"), np.pad(known, ((1, 0), (1, 0))))
    shared = regions_model(model.problem, HandedImaging(model.vector, errors)).shared
    assert isinstance(shared, Shared)
    names = [n for n in ("tilt_x", "B2_x") if n in model.bounds.imaging]  # C1 is each region's own
    assert shared.index == tuple(INDEX[name] for name in names)
    made = shared.directions.T @ shared.directions
    np.testing.assert_allclose(made, known[: len(names), : len(names)], rtol=1e-6)


def handed(path, content) -> HandedErrors | None:
    path.write_text(json.dumps({"parameters": {"C1": {"value": 4.0}}} | content))
    found = handed_imaging(run_settings({"stage": "reconstruct", "imaging": {"result": str(path)}}))
    assert found is not None
    return found.errors


def test_a_covariance_is_read_in_this_run_s_convention(tmp_path):
    path = tmp_path / "result.json"
    assert handed(path, {}) is None
    content = {
        "covariance": {"names": ["B2_x", "tilt_x"], "values": [[9.0, 0.6], [0.6, 0.25]]},
        "conventions": {"aberrations": "drprobe"},
    }
    found = handed(path, content)
    assert found is not None
    # Dr. Probe's B2 is a third of that of Haider's table, in which this run is
    factor = np.sqrt(found.covariance[0, 0]) / 3.0
    assert factor in (pytest.approx(1.0 / 3.0), pytest.approx(3.0))
    assert found.covariance[0, 1] == pytest.approx(0.6 * factor)
    assert found.covariance[1, 1] == pytest.approx(0.25)


@pytest.mark.parametrize(
    "wrong",
    [
        {"names": ["B2_x"], "values": [[1.0, 2.0]]},
        {"names": ["Z9"], "values": [[1.0]]},
        {"names": ["B2_x", "tilt_x"], "values": [[1.0, 2.0], [0.0, 1.0]]},
        {"names": ["B2_x"], "values": [["x"]]},
        [1.0],
    ],
)
def test_what_is_no_covariance_is_refused(tmp_path, wrong):
    with pytest.raises(InputError, match=r"imaging\.result: .*covariance"):
        handed(tmp_path / "result.json", {"covariance": wrong})
