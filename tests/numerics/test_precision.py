"""What needs 64-bit numbers says so, where they are off."""

import jax
import numpy as np
import pytest

import qhrtem_jax
from qhrtem_jax.bayesopt.turbo import Turbo
from qhrtem_jax.errors import InputError
from qhrtem_jax.exploration.campaign import Strategy, begin
from tests.physics import crystal


@pytest.fixture
def single():
    jax.config.update("jax_enable_x64", False)
    yield
    jax.config.update("jax_enable_x64", True)


NEEDS = [
    ("precision: float64", lambda folder: crystal.simulator()),
    ("the Gaussian process", lambda folder: Turbo(5, 4, 80).init(jax.random.key(0))),
    ("the Gaussian process", lambda folder: begin(np.zeros((4, 2)), Strategy(40.0))),
    ("a run", lambda folder: qhrtem_jax.run("imaging", folder / "run", {})),
]


@pytest.mark.parametrize(("what", "begins"), NEEDS)
def test_the_switch_is_asked_for(single, tmp_path, what, begins):
    with pytest.raises(InputError, match=f"{what} needs 64-bit numbers: call .*enable_x64"):
        begins(tmp_path)
