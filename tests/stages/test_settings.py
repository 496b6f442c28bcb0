"""Settings and parameter space: strict, and named in every error."""

import numpy as np
import pytest

from qhrtem_jax.errors import InputError
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.stages.parameter_space import parameter_space
from qhrtem_jax.stages.settings import run_settings


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
