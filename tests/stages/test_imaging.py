"""The imaging stage on the embedded example, which abTEM simulated."""

import dataclasses
import json
from importlib import resources

import jax.numpy as jnp
import numpy as np
import pytest

from qhrtem_jax.errors import InputError
from qhrtem_jax.imaging.least_squares import _settled
from qhrtem_jax.imaging.model import Found, search_model
from qhrtem_jax.imaging.origin import with_origin
from qhrtem_jax.imaging.solver import make_solver
from qhrtem_jax.inputs.settings import ParameterSettings
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.physics.aberrations import ABERRATION_NAMES, convention_factors
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.stages import run_settings
from tests.runs import computed, example_settings, prepared
from tests.schema import check

QUICK = {"max_evaluations": 96, "training_points": 96, "starts": 3}


def task(**groups):
    # coarser than the default: these tests are not about the grid
    specimen = {"grid": [36, 54], "grid_error": 1e-3}
    content = {"data": {}, "specimen": specimen, "microscope": {}, "simulate": {}} | groups
    return prepared(example_settings({"stage": "imaging", "seed": 3, **content}))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    progress = []
    result, arrays = computed(
        task(microscope={"aberration_convention": "drprobe"}, optimizer=QUICK),
        folder,
        progress.append,
    )
    return result, arrays, folder, progress


def truth():
    text = resources.files("qhrtem_jax").joinpath("example", "truth.json").read_text("utf-8")
    return json.loads(text)["parameters"]


def test_recovers_the_truth_within_its_errors(finished):
    result, _, _, _ = finished
    parameters, expected = result["parameters"], truth()
    assert parameters["thickness"]["value"] == expected["thickness"]
    pulls = {
        name: (entry["value"] - expected[name]) / entry["std"]
        for name, entry in parameters.items()
        if entry["free"] and name != "thickness" and entry["std"] is not None
    }
    assert len(pulls) >= 18
    assert max(map(abs, pulls.values())) < 4.0, pulls
    assert np.mean([abs(p) < 2.0 for p in pulls.values()]) > 0.8
    assert parameters["C1"]["std"] < 0.1
    assert parameters["A1_x"]["std"] < 0.1
    assert 0.9 < result["fit"]["chi2_reduced"] < 1.1


def test_priors_weigh_as_chi_square_does():
    """What a prior adds is the square of the distance in its deviations, against residuals of the
    given variance: in the search, and in least squares."""
    known = {"C1": {"prior_mean": 4.0, "prior_std": 0.5}, "C3": {"free": False, "value": -6000.0}}
    problem = task(parameters=known, optimizer=QUICK)
    variance = 3e-3
    model = search_model(problem, problem.simulator()[0], variance)
    space, pixels = model.space.space, problem.experiment.image.size
    k = space.names.index("C1")
    low, high = space.low[k], space.high[k]
    unit = np.full((2, len(space)), 0.5)
    unit[:, k] = (np.array([4.0, 6.5]) - low) / (high - low)
    value, _, mse, _ = model.evaluator(jnp.asarray(unit))
    expected = np.array([0.0, 5.0**2]) * variance / pixels
    np.testing.assert_allclose(np.asarray(value - mse), expected, atol=1e-3 * expected.max())
    method, names = make_solver(model).method, make_solver(model).names
    assert "C3" not in names
    std = float(method.prior_std[names.index("C1")]) * (high - low)
    assert std == pytest.approx(0.5 * np.sqrt(pixels / variance), rel=1e-5)


def test_a_criterion_that_cannot_be_searched_is_refused():
    means = {"frame": None, "average": [[[64, 0]], [[60, 0]]]}
    with pytest.raises(InputError, match=r"data\.average: found 2 means, which are fitted toget"):
        task(objective={"criterion": "ncc"}, data=means)
    small = {"frame": [64, 0, 10, 64], "roi_shape": None, "average": None, "rois": None}
    with pytest.raises(InputError, match=r"found ssim for an image of \[10, 64\], expected at l"):
        task(objective={"criterion": "ssim"}, data=small)
    with pytest.raises(InputError, match="found chi2 and no noise to weigh pixels by, expected d"):
        task(objective={"criterion": "chi2"}, data={"vacuum": None})


@pytest.mark.parametrize("criterion", ["poisson", "ssim"])
def test_gradients_finish_for_every_criterion(tmp_path, criterion):
    """Least squares where it is a sum of squares, else a quasi-Newton method: near its minimum the
    truth is near."""
    known, free = truth(), ("C1", "A1_x", "absorption")
    parameters = {
        name: {"free": False, "value": value} for name, value in known.items() if name not in free
    }
    problem = task(
        microscope={"aberration_convention": "drprobe"},
        parameters=parameters,
        optimizer=QUICK | {"max_evaluations": 24, "starts": 1, "max_iterations": 15},
        objective={"criterion": criterion},
    )
    result, _ = computed(problem, RunFolder(tmp_path))
    check(result)
    assert result["cost"]["gradient_evaluations"] > 0
    assert result["fit"]["mse"] < 1.1 * 1.8e-4
    for name in free:
        entry = result["parameters"][name]
        assert abs(entry["value"] - known[name]) < 5.0 * entry["std"], name
    assert result["parameters"]["thickness"]["value"] == known["thickness"]


def test_result_is_complete_and_plain(finished):
    check(finished[0])
    result, arrays, folder, progress = finished
    folder.write_result(result)
    again = json.loads((folder.path / "result.json").read_text())
    assert {"schema", "stage", "status", "seed", "device", "versions", "conventions"} <= set(again)
    assert {"warnings", "fit", "parameters", "correlations", "cost"} <= set(again)
    assert again["cost"]["evaluations"] == 96
    assert again["cost"]["gradient_evaluations"] > 0
    assert again["parameters"]["A0_x"]["free"]
    assert not again["parameters"]["B4_x"]["free"]
    np.testing.assert_allclose(
        arrays["difference"], arrays["simulation"] - arrays["experiment"], atol=1e-6
    )
    assert again["fit"]["mse"] == pytest.approx(float(np.mean(arrays["difference"] ** 2)), rel=1e-4)
    history = (folder.path / "history.csv").read_text().splitlines()
    assert history[0] == "iteration,evaluations,seconds,best_mse"
    best = [float(line.split(",")[3]) for line in history[1:]]
    assert best == sorted(best, reverse=True)
    assert progress[-1].best_mse == pytest.approx(again["fit"]["mse"], rel=0.01)


class KilledError(Exception):
    pass


def test_resumes_after_a_kill_to_the_same_result(finished, tmp_path, monkeypatch):
    result = finished[0]
    monkeypatch.setattr("qhrtem_jax.imaging.bayesian.CHECKPOINT_SECONDS", 0.0)
    folder = RunFolder(tmp_path)
    groups = {"microscope": {"aberration_convention": "drprobe"}, "optimizer": QUICK}

    def kill(progress):
        if progress.evaluations >= 72:
            raise KilledError

    with pytest.raises(KilledError):
        computed(task(**groups), folder, kill)
    assert not folder.finished
    evaluated = []
    resumed, _ = computed(
        task(resume=True, **groups), folder, lambda p: evaluated.append(p.evaluations)
    )
    assert evaluated[0] > 64, "what was done is not done again"
    assert resumed["parameters"] == result["parameters"]
    assert resumed["cost"]["evaluations"] == result["cost"]["evaluations"]


def test_conventions_change_numbers_not_physics(finished):
    """B2 in Haider's convention is Dr. Probe's over 3, conjugated; so is its error."""
    factors = dict(zip(ABERRATION_NAMES, convention_factors("drprobe"), strict=True))
    assert factors["B2_y"] == pytest.approx(-1 / 3)
    drprobe = finished[0]["parameters"]
    fixed = {
        name: {"free": False, "value": entry["value"] * factors.get(name, 1.0)}
        for name, entry in drprobe.items()
        if name not in ("B2_x", "B2_y")
    }
    folder = RunFolder(finished[2].path / "haider")
    problem = task(parameters=fixed, optimizer=QUICK | {"name": "lm", "starts": 2})
    result, _ = computed(problem, folder)
    for name in ("B2_x", "B2_y"):
        expected = drprobe[name]["value"] * factors[name]
        assert result["parameters"][name]["value"] == pytest.approx(expected, abs=0.1)
    assert result["fit"]["mse"] == pytest.approx(finished[0]["fit"]["mse"], rel=2e-3)


def test_least_squares_alone_with_priors(tmp_path):
    """A strong prior holds a parameter; the thickness is searched by walking."""
    known = truth()
    free = ("C1", "A1_x", "A1_y", "thickness", "absorption")
    parameters = {
        name: {"free": False, "value": value} for name, value in known.items() if name not in free
    }
    parameters["C1"] = {"prior_mean": 5.3, "prior_std": 0.001}
    parameters["thickness"] = {"low": 10, "high": 26}
    problem = task(
        microscope={"aberration_convention": "drprobe"},
        parameters=parameters,
        optimizer={"name": "lm", "starts": 4},
    )
    result, _ = computed(problem, RunFolder(tmp_path))
    assert result["parameters"]["C1"]["value"] == pytest.approx(5.3, abs=0.01)
    assert result["parameters"]["C1"]["std_noise"] is None, "the prior knows it, not the image"
    assert any("C1 is not determined by this image: its prior" in w for w in result["warnings"])
    assert result["fit"]["chi2_reduced"] > 1.2


def test_noise_from_the_residual_is_said(tmp_path):
    parameters = {
        name: {"free": False, "value": value}
        for name, value in truth().items()
        if name not in ("C1", "A1_x")
    }
    problem = task(
        data={"vacuum": None},
        parameters=parameters,
        microscope={"aberration_convention": "drprobe"},
        optimizer={"name": "lm", "starts": 2},
    )
    result, _ = computed(problem, RunFolder(tmp_path))
    assert result["noise"]["source"] == "residual"
    assert any("noise is taken from the residual" in w for w in result["warnings"])
    assert result["noise"]["variance"] == pytest.approx(1.8e-4, rel=0.15)
    assert result["fit"]["chi2_reduced"] is None, "a noise from the residual cannot judge it"


def test_input_that_belongs_together():
    with pytest.raises(InputError, match=r"specimen\.structure: none given"):
        prepared(
            run_settings(
                {
                    "stage": "imaging",
                    "data": {
                        "image": str(resources.files("qhrtem_jax") / "example" / "example.npy"),
                        "sampling_nm": 0.0089,
                    },
                }
            )
        )


@pytest.mark.parametrize("rounds", [0, 4])
def test_the_search_goes_on_while_noise_does_not_explain_the_image(tmp_path, monkeypatch, rounds):
    """From one start of a small sample gradients end in a wrong basin, which is said; further
    starts lead out of it."""
    monkeypatch.setattr("qhrtem_jax.imaging.least_squares.ROUNDS", rounds)
    known, far = truth(), {"C1": 9.5, "A1_x": -4.0, "A1_y": 4.0, "tilt_x": -9.0, "tilt_y": 9.0}
    parameters = {
        name: {"free": False, "value": value}
        for name, value in known.items()
        if name != "thickness"
    } | {name: {"value": value} for name, value in far.items()}
    problem = task(
        microscope={"aberration_convention": "drprobe"},
        parameters=parameters,
        optimizer={"name": "lm", "starts": 1, "batch": 1, "max_evaluations": 1},
        seed=3,
    )
    result, _ = computed(problem, RunFolder(tmp_path))
    right = result["parameters"]["thickness"]["value"] == known["thickness"]
    doubted = any("the basin may be wrong" in warning for warning in result["warnings"])
    assert right == (rounds > 0)
    assert doubted == (rounds == 0)
    assert (result["fit"]["mse"] < 1.15 * 1.8e-4) == right
    assert (result["cost"]["evaluations"] > 1) == right
    if right:
        probability = result["thickness_probability"]
        assert probability[str(known["thickness"])] > 0.99
        assert sum(probability.values()) == pytest.approx(1.0, abs=1e-3)


def test_when_a_search_is_content():
    """With an image that the noise explains; else with a minimum that several starts have led to,
    more of them where the misfit is far above the noise."""
    problem = task(optimizer=QUICK)
    model = search_model(problem, problem.simulator()[0], 3e-3)
    assert model.expected == pytest.approx(problem.experiment.noise.variance)
    low, high = (problem.space.base.copy() for _ in range(2))
    high[[INDEX["C1"], INDEX["A1_x"], INDEX["tilt_x"]]] += 1e-3
    for name in problem.space.space.names:
        variable = problem.space.space.variables[problem.space.space.names.index(name)]
        low[INDEX[name]] = variable.low
    best = problem.space.base

    def content(misfit, ends, expected=model.expected):
        found = Found(best, misfit * model.expected, ends=tuple(ends))
        return _settled(dataclasses.replace(model, expected=expected), found)

    assert content(1.1, [])
    assert not content(3.0, [best, best, low])
    assert content(3.0, [best, high, best, low])
    assert not content(6.0, [best, high] * 3 + [best, low])
    assert content(6.0, [best, high] * 4)
    assert content(6.0, [best, best], expected=None)
    assert not content(1.0, [best, low], expected=None)
    thinner = best.copy()
    thinner[INDEX["thickness"]] -= 3
    assert not content(3.0, [best, best, thinner])


@pytest.mark.parametrize("seed", [1])
def test_a_cell_that_begins_elsewhere_is_found(seed, tmp_path):
    journal = Journal(RunFolder(tmp_path / "run"), lambda progress: None)
    problem = task(optimizer=QUICK)
    problem = dataclasses.replace(
        problem, settings=dataclasses.replace(problem.settings, seed=seed)
    )
    simulator, _ = problem.simulator()
    vector = problem.space.base.copy()
    for name, value in truth().items():
        vector[INDEX[name]] = value
    noise = 0.01 * np.random.default_rng(seed).normal(size=problem.experiment.image.shape)

    def bounds_of(shift, **options):
        moved = vector.copy()
        moved[[INDEX["A0_x"], INDEX["A0_y"]]] = shift
        image = np.asarray(simulator.image(jnp.asarray(moved, simulator.dtype)), float) + noise
        parameters = {name: ParameterSettings(**known) for name, known in options.items()}
        settings = dataclasses.replace(problem.settings, parameters=parameters)
        experiment = dataclasses.replace(problem.experiment, image=image)
        here = dataclasses.replace(problem, experiment=experiment, settings=settings)
        return [(v.low, v.high) for v in with_origin(here, simulator, journal).space.shift]

    as_given = [(-0.05, 0.05), (-0.05, 0.05)]
    assert bounds_of((0.02, -0.03)) == as_given
    for shift in ((0.21, -0.1), (-0.13, 0.16)):
        (left, right), (top, bottom) = bounds_of(shift)
        assert right - left == pytest.approx(0.1)
        assert bottom - top == pytest.approx(0.1)
        assert top < shift[1] < bottom
        # half a cell to the side the projected crystal is the same
        half = 0.5 * problem.crystal.size_nm[0]
        assert any(left < shift[0] + n * half < right for n in (-1, 0, 1))
        assert bounds_of(shift, A0_x={"low": -0.05}) == as_given
        assert journal.evaluations > 0
