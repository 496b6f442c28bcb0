"""Settings and parameter space: strict, and named in every error."""

import dataclasses
import time

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from qhrtem_jax.errors import InputError
from qhrtem_jax.inputs.parameter_space import parameter_space
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.stages import RunSettings, run_settings


def settings(**groups):
    return run_settings({"stage": "imaging", **groups})


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"stage": "magic"}, r"stage: found 'magic'"),
        ({"colour": 1}, r"colour: unknown option"),
        ({"data": {"imgae": "x"}}, r"data\.imgae: unknown option"),
        ({"data": {"shape": [45]}}, r"data\.shape: found \[45\], expected 2 numbers"),
        ({"data": {"shape": [45, 6.5]}}, r"data\.shape\[1\]: found 6\.5, expected a whole number"),
        ({"data": {"mtf_scale_std": -0.1}}, r"data\.mtf_scale_std: found -0\.1, expected 0 to"),
        ({"data": {"mtf_scale_std": 0.3}}, r"data\.mtf_scale_std: found 0\.3, expected 0 to"),
        ({"seed": "a"}, r"seed: found 'a', expected a whole number"),
        ({"seed": True}, r"seed: found True"),
        ({"parameters": {"C9": {"value": 1}}}, r"parameters\.C9: unknown parameter"),
        ({"parameters": {"C1": {"vaule": 1}}}, r"parameters\.C1\.vaule: unknown option"),
        ({"parameters": {"C1": {"low": float("nan")}}}, r"parameters\.C1\.low: found nan"),
        ({"optimizer": {"acquisition": "best"}}, r"optimizer\.acquisition: found 'best'"),
        ({"optimizer": {"profile": ["tilt"]}}, r"optimizer\.profile"),
        ({"optimizer": {"max_evaluations": 0}}, r"optimizer\.max_evaluations: found 0"),
        ({"specimen": {"grid": "fine"}}, r"specimen\.grid: found 'fine'"),
        ({"specimen": {"slices": 0}}, r"specimen\.slices: found 0"),
        ({"microscope": {"aberration_convention": "zeiss"}}, r"aberration_convention"),
        ({"objective": {"criterion": "best"}}, r"objective\.criterion: found 'best', expected one"),
        (
            {"objective": {"criterion": "ssim"}, "optimizer": {"surrogate": "composite"}},
            r"optimizer\.surrogate: found composite, expected auto, scalar",
        ),
        (
            {
                "objective": {"criterion": "ncc"},
                "parameters": {"C1": {"prior_mean": 4.0, "prior_std": 1.0}},
            },
            r"parameters: found priors of C1, expected none",
        ),
    ],
)
def test_mistakes_are_named(groups, message):
    with pytest.raises(InputError, match=message):
        run_settings({"stage": "imaging", **groups})


def test_default_space_is_the_paper_s():
    space = parameter_space(settings(microscope={"aberration_convention": "drprobe"}))
    fitted = space.fitted.space
    bounds = {v.name: (v.low, v.high) for v in fitted.variables}
    assert len(bounds) == 21  # and the thickness
    assert bounds["B2_x"] == bounds["B2_y"] == bounds["A2_x"] == (-150.0, 150.0)
    assert bounds["S3_y"] == bounds["A3_x"] == (-10e3, 10e3)
    assert bounds["C3"] == (-15e3, 0.0)
    assert bounds["A0_x"] == (-0.05, 0.05)
    assert space.thickness_range == (4, 50)
    haider = parameter_space(settings()).space
    assert haider.variables[haider.names.index("B2_x")].high == 50.0


def test_nothing_profiled_searches_every_parameter():
    space = parameter_space(settings(optimizer={"profile": []}))
    assert len(space.space) == 22
    thickness = space.space.variables[space.space.names.index("thickness")]
    assert thickness.integer
    assert round(thickness.low) == 4
    assert round(thickness.high) == 50


def test_each_key_acts_on_its_own():
    space = parameter_space(
        settings(
            parameters={
                "C3": {"free": False, "value": -9000.0},
                "C1": {"low": 2.0},
                "B4_x": {"free": True},
                "C5": {"prior_mean": 3e6, "prior_std": 5e5},
                "thickness": {"free": False, "value": 12},
            }
        )
    )
    names = space.space.names
    assert "C3" not in names
    assert space.base[INDEX["C3"]] == -9000.0
    assert space.space.variables[names.index("C1")].low == 2.0
    assert space.space.variables[names.index("C1")].high == 10.0
    assert "B4_x" in names
    assert space.thickness_range == (12, 12)
    k = names.index("C5")
    np.testing.assert_allclose(space.space.prior_std[k], 5e5 / 9e6)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"C1": {"low": 5.0, "high": 4.0}}, r"parameters\.C1: found bounds low=5\.0, high=4\.0"),
        ({"C1": {"value": 20.0}}, r"parameters\.C1\.value: found 20\.0"),
        ({"C1": {"prior_mean": 4.0}}, r"prior_mean and prior_std belong together"),
        ({"C1": {"prior_mean": 4.0, "prior_std": 0.0}}, r"prior_std"),
        ({"thickness": {"low": 0}}, r"parameters\.thickness: found 0"),
        ({"thickness": {"high": 20.5}}, r"parameters\.thickness\.high"),
        ({"focus_spread": {"low": -1.0}}, r"parameters\.focus_spread"),
    ],
)
def test_impossible_parameters_are_refused(parameters, message):
    with pytest.raises(InputError, match=message):
        parameter_space(settings(parameters=parameters))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("optimizer.max_evaluations", 1e12),
        ("optimizer.batch", 1e9),
        ("optimizer.starts", 1e9),
        ("optimizer.training_points", 1e9),
        ("optimizer.initial_points", 1e6),
        ("optimizer.beta", 1e300),
        ("optimizer.max_seconds", 0),
        ("optimizer.max_seconds", float("nan")),
        ("optimizer.max_iterations", True),
        ("optimizer", None),
        ("optimizer", [1, 2]),
        ("optimizer.profile", "thickness"),
        ("optimizer.profile", "x" * 10**6),
        ("specimen.slices", 100_000),
        ("specimen.max_cells", 1_000_000),
        ("specimen.grid_error", 1e-300),
        ("specimen.grid", [4, 4]),
        ("data.shape", [3_000_000, 3_000_000]),
        ("data.roi_shape", [[4, 5]]),
        ("data.sampling_nm", 1e-300),
        ("data.sampling_nm", [0.01, -0.01]),
        ("data.mtf_scale", 1e300),
        ("data.noise_variance", 1e300),
        pytest.param("data.noise_variance", 10**5000, id="huge"),
        ("data.noise_variance", "1e-4 "),
        ("data.image", "a\0b"),
        ("data.image", "x" * 5000),
        ("data.image", "\ud800"),
        ("data.rois", [0, 0]),
        ("data.average", [[[[0, 0]]]]),
        ("microscope.high_tension_kv", 1e308),
        ("microscope.high_tension_kv", 1e-300),
        ("seed", 1e30),
        pytest.param("seed", 10**5000, id="huge seed"),
        ("seed", None),
        ("memory_gb", "much"),
        ("memory_gb", float("inf")),
        ("stitch.sweeps", 1e12),
        ("reconstruct.passes", 1e12),
        ("structure.rounds", 1e12),
        ("parameters", [1]),
        ("parameters", ""),
        ("parameters.C1", 5.0),
    ],
)
def test_whatever_cannot_be_is_refused_by_its_name(key, value):
    content = {"stage": "imaging"}
    *groups, last = key.split(".")
    at = content
    for group in groups:
        at = at.setdefault(group, {})
    at[last] = value
    with pytest.raises(InputError) as refused:
        run_settings(content)
    message = str(refused.value)
    assert message.startswith(key)
    assert len(message) < 400


def test_all_that_is_wrong_is_said_at_once():
    content = {
        "seed": -1,
        "data": {"sampling_nm": "small", "rows": 3},
        "parameters": {"C1": {"value": "a"}},
    }
    with pytest.raises(InputError) as caught:
        run_settings(content)
    said = [fault.partition(":")[0] for fault in caught.value.faults]
    assert said == ["seed", "data.sampling_nm", "data.rows", "parameters.C1.value"]
    content = {"specimen": {"grid": "fine"}, "optimizer": {"profile": ["tilt"]}}
    with pytest.raises(InputError) as caught:
        run_settings({"stage": "imaging", **content})
    assert [f.partition(":")[0] for f in caught.value.faults] == [
        "optimizer.profile",
        "specimen.grid",
    ]


@pytest.mark.parametrize(
    ("name", "written", "expected"),
    [
        ("C3", "-8 um", -8e3),
        ("C3", "-8.5µm", -8.5e3),
        ("C5", "4 mm", 4e6),
        ("image_spread", "17pm", 0.017),
        ("tilt_x", "1.5e-3 rad", 1.5),
        ("absorption", "2 %", 0.02),
        ("C1", 4, 4.0),
    ],
)
def test_numbers_may_have_units(name, written, expected):
    settings = run_settings({"stage": "imaging", "parameters": {name: {"value": written}}})
    assert settings.parameters[name].value == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "written", "expected"),
    [("C3", "2 mrad", "pm"), ("tilt_y", "1 nm", "mrad"), ("thickness", "4 nm", "a number")],
)
def test_units_of_another_kind_are_refused(name, written, expected):
    with pytest.raises(InputError, match=f"parameters.{name}.low: found .*{expected}"):
        run_settings({"stage": "imaging", "parameters": {name: {"low": written}}})


def test_long_lists_are_refused_before_they_are_read():
    entries = [[0, 0]] * 10_000_000
    for name in ("rois", "average"):
        start = time.perf_counter()
        with pytest.raises(InputError, match=rf"data\.{name}: found 10000000 entries"):
            settings(data={name: entries})
        assert time.perf_counter() - start < 1.0


def test_deep_nesting_is_refused():
    inside, lists = {}, []
    for _ in range(100_000):
        inside, lists = {"a": inside}, [lists]
    for content, name in (
        ({"optimizer": {"beta": inside}}, "optimizer.beta"),
        ({"data": {"rois": lists}}, "data.rois"),
        ({"parameters": inside}, "parameters"),
    ):
        with pytest.raises(InputError) as refused:
            settings(**content)
        assert str(refused.value).startswith(name)
    while inside:  # taken apart here: the interpreter would go down as deep to free it
        inside = inside["a"]
    while lists:
        lists = lists[0]


def test_keys_are_names():
    for content in ({3: 1}, {None: 1}, {"data": {(1, 2): 3}}, {"stitch": {"charges": {False: 1}}}):
        with pytest.raises(InputError, match="found the key"):
            run_settings({"stage": "imaging", **content})
    with pytest.raises(InputError, match="stage: none given"):
        run_settings({})
    with pytest.raises(InputError, match="settings: found 5"):
        run_settings(5)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"C1": {"low": -1e300}}, r"parameters\.C1\.low: found -1e\+300"),
        ({"C1": {"value": 1e300, "free": False}}, r"parameters\.C1\.value: found 1e\+300"),
        ({"C1": {"low": 10.0}}, r"parameters\.C1: found bounds low=10\.0, high=10\.0"),
        ({"C1": {"low": 9.9999999}}, r"parameters\.C1: found bounds low=9\.9999999"),
        ({"C1": {"prior_mean": 4.0, "prior_std": -1.0}}, r"C1: found prior_std=-1\.0"),
        ({"C1": {"prior_mean": 4.0, "prior_std": 1e-300}}, r"C1\.prior_std: found 1e-300"),
        ({"C1": {"prior_mean": 4.0, "prior_std": 1e300}}, r"C1\.prior_std: found 1e\+300"),
        ({"thickness": {"high": 1e9}}, r"parameters\.thickness\.high: found 1e\+09"),
    ],
)
def test_absurd_parameters_are_refused(parameters, message):
    with pytest.raises(InputError, match=message):
        parameter_space(settings(parameters=parameters))


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([1, 0, "auto", 1e300, 10**400, "imaging", b"bytes", {1}, object()])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=3)
    ),
    max_leaves=6,
)
GROUPS = {
    f.name: [g.name for g in dataclasses.fields(f.default_factory)]
    for f in dataclasses.fields(RunSettings)
    if dataclasses.is_dataclass(f.default_factory)
}
NAMED = st.fixed_dictionaries(
    {},
    optional={
        **{
            name: VALUES | st.dictionaries(st.sampled_from(keys), VALUES, max_size=3)
            for name, keys in GROUPS.items()
        },
        **{
            name: VALUES
            for name in ("stage", "seed", "device", "precision", "memory_gb", "resume", "other")
        },
        "parameters": VALUES
        | st.dictionaries(
            st.sampled_from(["C1", "thickness", "convention", "C9"]),
            VALUES
            | st.dictionaries(st.sampled_from(["value", "low", "free", "x"]), VALUES, max_size=3),
            max_size=3,
        ),
    },
)


@hypothesis.settings(max_examples=100, deadline=None, derandomize=True)
@hypothesis.given(NAMED | VALUES)
def test_random_settings_are_accepted_or_refused_by_name(content):
    if isinstance(content, dict):
        content = {"stage": "imaging", **content}
    faults: tuple[str, ...] = ()
    try:
        parameter_space(run_settings(content))
    except InputError as error:
        faults = error.faults
    for message in faults:
        known = {f.name for f in dataclasses.fields(RunSettings)} | {"settings"}
        own = set(content) if isinstance(content, dict) else set()
        named = (str(key) for key in known | own | {repr(key) for key in own})
        assert message.startswith(tuple(named)), message
        assert len(message) < 1000
        assert "\n" not in message


def bounded(low, high, whole=False):
    return st.integers(low, high) if whole else st.floats(low, high)


@hypothesis.settings(max_examples=40, deadline=None, derandomize=True)
@hypothesis.given(
    seed=bounded(0, 2**32 - 1, True),
    sampling=bounded(1e-3, 0.5),
    evaluations=bounded(64, 10_000, True),
    grid=st.tuples(bounded(8, 512, True), bounded(8, 512, True)),
    tension=bounded(60.0, 1000.0),
    c1=bounded(0.0, 10.0),
)
def test_valid_settings_survive(seed, sampling, evaluations, grid, tension, c1):
    chosen = settings(
        seed=float(seed) if seed < 2**50 else seed,
        data={"sampling_nm": sampling},
        optimizer={"max_evaluations": float(evaluations)},
        specimen={"grid": list(grid)},
        microscope={"high_tension_kv": tension},
        parameters={"C1": {"value": c1}},
    )
    assert chosen.seed == seed
    assert chosen.data.sampling == (sampling, sampling)
    assert chosen.optimizer.max_evaluations == evaluations
    assert chosen.specimen.grid == grid
    assert chosen.microscope.high_tension_kv == tension
    assert parameter_space(chosen).base[INDEX["C1"]] == c1
