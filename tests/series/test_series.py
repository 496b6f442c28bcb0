"""A region over time: it drifts, defocuses, and loses an atom."""

import dataclasses

import numpy as np
import pytest

from qhrtem_jax.errors import InputError
from qhrtem_jax.field.simulate import image
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.matching.noise import NoiseModel
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.regions.model import regions_model
from tests import wedge
from tests.runs import computed, prepared
from tests.schema import check

DRIFT_PX = np.array([[0.0, 0.0], [0.8, -0.5], [1.4, 0.3]])  # x, y
C1_NM = np.array([0.0, 0.2, -0.15])
LOST, FROM = 1, 1
"""Chain that has one atom less, from which frame on."""


def settings(path, frames):
    found = wedge.settings(
        path,
        1,
        specimen={"max_cells": 4},
        reconstruct={"max_evaluations": 0},
        stitch={"sweeps": 1},
    )
    np.save(path / "stack.npy", frames)
    data = dataclasses.replace(found.data, image=str(path / "stack.npy"))
    return dataclasses.replace(found, stage="series", data=data)


def simulated(path):
    """Frames of the first region of the wedge as it truly is, but for what changes; and its true
    numbers."""
    first = np.load(wedge.DATA / "field.npy")[: 2 * wedge.ROWS]
    problem = prepared(settings(path, np.array([first, first]))).first.regions
    fit = regions_model(problem, problem.imaging)
    roi = wedge.TRUTH["rois"][0]
    point = fit.layout.point(
        wedge.vector(), np.zeros((fit.layout.columns, 2)), np.ones(8), np.ones(8)
    )
    model, state, (numbers,) = wedge.at_truth(fit, point[None], [roi])
    journal = Journal(RunFolder(path / "truth"), lambda progress: None)
    noise = NoiseModel(1.8e-4, (0.6, 0.25))
    white = np.random.default_rng(4).normal(size=(len(DRIFT_PX), *first.shape))
    left, right = (np.linalg.cholesky(noise.correlation(n) + 1e-9 * np.eye(n)) for n in first.shape)
    frames = []
    for k, (drift, c1) in enumerate(zip(DRIFT_PX, C1_NM, strict=True)):
        points = state.points.copy()
        # the frame moves over the specimen, whose image moves the other way
        points[:, [INDEX["A0_x"], INDEX["A0_y"]]] -= drift * wedge.TRUTH["sampling_nm"]
        points[:, INDEX["C1"]] += c1
        points[:, fit.layout.counts.start + LOST] -= float(k >= FROM)
        clean = image(model, dataclasses.replace(state, points=points), journal)
        frames.append(clean + noise.variance**0.5 * left @ white[k] @ right.T)
    return np.array(frames), numbers, fit.columns


class Interrupted(Exception):
    pass


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """Of a run that was interrupted when it had followed two frames, and went on."""
    path = tmp_path_factory.mktemp("series")
    frames, numbers, columns = simulated(path)
    phases: list[list[str]] = [[], []]

    def interrupt(progress):
        phases[0].append(progress.phase)
        if progress.phase == "frame 3 of 3":
            raise Interrupted

    chosen = settings(path, frames)
    with pytest.raises(Interrupted):
        computed(prepared(chosen), path / "run", interrupt)
    again = prepared(dataclasses.replace(chosen, resume=True))
    result, arrays = computed(again, path / "run", lambda p: phases[1].append(p.phase))
    assert {"relaxed field", "frame 1 of 3", "frame 2 of 3"} <= set(phases[0])
    # nothing of that is done again
    assert not {"relaxed field", "frame 1 of 3", "frame 2 of 3"} & set(phases[1])
    assert "frame 3 of 3" in phases[1]
    return result, arrays, numbers, columns


def test_the_result_is_as_the_schema_says(followed):
    check(followed[0])
    assert followed[1]["simulation"].shape == followed[1]["experiment"].shape


def test_drift_and_focus_are_followed(followed):
    """As surely as they say: one thin region hardly tells a tilt, which moves its image."""
    frames = followed[0]["frames"]
    drift = np.array([frame["drift_px"] for frame in frames])
    std = np.array([frame["std_drift_px"] for frame in frames[1:]], float)
    assert np.all((std > 0.02) & (std < 0.12))
    assert np.all(np.abs(drift - DRIFT_PX)[1:] < 3.0 * std)
    c1 = np.array([frame["C1_nm"] for frame in frames])
    np.testing.assert_allclose(c1 - c1[0], C1_NM, atol=0.15)


def test_a_lost_atom_is_dated_and_nothing_else_changes(followed):
    result, _, numbers, columns = followed
    (event,) = result["events"]
    chain = columns.chains[LOST]
    assert event["species"] == chain.symbol
    assert event["x"] == pytest.approx(columns.xy[chain.column, 0])
    assert (event["frame"], event["change"]) == (FROM, -1)
    assert event["probability"] > 0.9
    for k, frame in enumerate(result["frames"]):
        expected = numbers.copy()
        expected[LOST] -= float(k >= FROM)
        found = [entry["n"] for entry in frame["rois"][0]["counts"]]
        assert np.sum(found != expected) <= 1
        assert found[LOST] == expected[LOST]


def test_one_image_is_no_series(tmp_path):
    with pytest.raises(InputError, match=r"stack\.npy holds one image, expected a stack"):
        prepared(settings(tmp_path, np.load(wedge.DATA / "field.npy")[: 2 * wedge.ROWS]))
