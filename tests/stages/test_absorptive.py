"""Absorption by vibrations reaches every simulator that images are fitted with."""

import jax.numpy as jnp
import numpy as np
import pytest

from qhrtem_jax.field.simulate import image
from qhrtem_jax.field.stitched import stitch, stitched_image
from qhrtem_jax.inputs.instrument import build_simulator
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.physics.camera import Frame
from qhrtem_jax.regions.model import regions_model
from tests import wedge
from tests.runs import prepared


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """By `specimen.phonons`: the images of one region, one crystal, the field, the stitched field;
    and the pixels of a layer's speckle."""
    found = {}
    for model in ("none", "absorptive"):
        path = tmp_path_factory.mktemp(model)
        journal = Journal(RunFolder(path / "run"), lambda now: None)
        chosen = wedge.settings(path, 1, specimen={"max_cells": 4, "phonons": model})
        problem = prepared(chosen).regions
        fit = regions_model(problem, problem.imaging)
        layout = fit.layout
        point = layout.point(
            wedge.vector(), np.zeros((layout.columns, 2)), np.full(8, 2.0), np.ones(8)
        )
        whole, state, _ = wedge.at_truth(fit, point[None], [wedge.TRUTH["rois"][0]])
        specimen, frame = problem.specimen, Frame(problem.frame.shape, problem.frame.sampling_nm)
        plain = build_simulator(
            chosen, specimen.crystal, specimen.microscope, frame, fit.choice, 12
        )
        vector = wedge.vector()
        vector[-1] = 12
        layers = specimen.layers(frame, fit.choice)
        found[model] = {
            "region": fit.simulator.image(jnp.asarray(point, fit.simulator.dtype)),
            "crystal": plain.image(jnp.asarray(vector, plain.dtype)),
            "field": image(whole, state, journal),
            "stitched": stitched_image(whole, stitch(whole, state, "cell", "mean"), journal),
            "layers": np.abs(layers.atoms),
        }
    return found


@pytest.mark.parametrize("name", ["region", "crystal", "field", "stitched", "layers"])
def test_every_simulator_absorbs(images, name):
    plain, less = (np.asarray(images[model][name], float) for model in ("none", "absorptive"))
    if name == "layers":
        assert np.max(np.abs(plain - less)) > 1e-4 * plain.max()
        return
    # some thousandths of a thin crystal, nothing of vacuum
    assert 5e-4 < np.mean(plain) - np.mean(less) < 0.05
