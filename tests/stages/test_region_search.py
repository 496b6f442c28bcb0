"""What the search for numbers of a region varies."""

import jax.numpy as jnp
import numpy as np
import pytest

from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.regions import search
from qhrtem_jax.regions.model import regions_model
from tests import wedge
from tests.runs import prepared


@pytest.mark.parametrize("free", [True, False])
def test_absorption_is_searched_within_its_bounds_or_stays(tmp_path, free):
    known = {"absorption": {"free": free, "low": 0.0, "high": 0.05}}
    settings = wedge.settings(tmp_path, 1, specimen={"max_cells": 4}, parameters=known)
    problem = prepared(settings).regions
    model = regions_model(problem, problem.imaging)
    space, chains = search._space(model), model.layout.chains
    bounds = {v.name: (v.low, v.high) for v in space.variables}
    assert bounds.get("absorption") == ((0.0, 0.05) if free else None)
    assert search._turbo(model).dimensions == len(space.variables)
    start = np.zeros((1, model.layout.size))
    start[0, INDEX["absorption"]] = 0.02
    designs = np.random.default_rng(0).uniform(size=(1, 4, len(space.variables)))
    first = np.concatenate([np.zeros((1, chains + 1)), np.full((1, int(free)), 0.02)], axis=1)
    unit = jnp.asarray(search._designs(model, first, designs, space))
    drawn = np.asarray(space.from_unit(unit))
    found = search._candidates(model, start, drawn)[0, :, INDEX["absorption"]]
    expected = 0.05 * designs[0, 1:, -1] if free else 0.02
    np.testing.assert_allclose(found[1:], expected)
