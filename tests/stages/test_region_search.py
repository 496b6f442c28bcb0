"""What the search for numbers of a region varies."""

import jax.numpy as jnp
import numpy as np
import pytest

from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.regions import search
from qhrtem_jax.regions.model import regions_model
from tests import wedge
from tests.runs import prepared


@pytest.mark.parametrize("free", [("C1", "absorption"), ("C1",), ("absorption",), ()])
def test_what_is_fixed_is_not_searched(tmp_path, free):
    known = {
        "absorption": {"free": "absorption" in free, "low": 0.0, "high": 0.05},
        "C1": {"free": "C1" in free},
    }
    settings = wedge.settings(tmp_path, 1, specimen={"max_cells": 4}, parameters=known)
    problem = prepared(settings).regions
    model = regions_model(problem, problem.imaging)
    space, chains = search._space(model), model.layout.chains
    bounds = {v.name: (v.low, v.high) for v in space.variables[chains:]}
    every = {"C1": (-0.6, 0.6), "absorption": (0.0, 0.05)}
    assert bounds == {name: every[name] for name in free}
    assert search._turbo(model).dimensions == len(space.variables)
    start = np.zeros((1, model.layout.size))
    start[0, INDEX["absorption"]], start[0, INDEX["C1"]] = 0.02, 4.0
    designs = np.random.default_rng(0).uniform(size=(1, 4, len(space.variables)))
    unit = search._designs(model, search._placed(model, start), designs, space)
    drawn = np.asarray(space.from_unit(jnp.asarray(unit)))
    found = search._candidates(model, start, drawn)[0]
    # the first is the start itself
    for name, there in (("C1", 4.0), ("absorption", 0.02)):
        column = found[:, INDEX[name]]
        assert column[0] == pytest.approx(there)
        expected = np.full(3, there)
        if name in free:
            low, high = bounds[name]
            share = designs[0, 1:, chains + free.index(name)]
            expected = low + (high - low) * share + (there if name == "C1" else 0.0)
        np.testing.assert_allclose(column[1:], expected)
