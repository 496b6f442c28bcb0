"""The joint fit of a field, kept and gone on with."""

import dataclasses

import numpy as np

from qhrtem_jax.field.checkpoint import Standing, restored, save
from qhrtem_jax.field.entrance import begin
from qhrtem_jax.field.model import FieldModel, weights
from qhrtem_jax.field.relaxation import surest_numbers
from qhrtem_jax.field.simulate import objective
from qhrtem_jax.field.sweep import pool
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.matching.noise import NoiseModel
from qhrtem_jax.matching.speckle import Speckle
from qhrtem_jax.regions.fit import start
from qhrtem_jax.regions.model import regions_model
from tests import wedge
from tests.runs import prepared


def test_a_fit_goes_on_from_where_it_was_kept(tmp_path):
    """A kept state, of a crystal that begins elsewhere and under speckle, is what it was."""
    rois = wedge.TRUTH["rois"][:1]
    settings = wedge.settings(tmp_path, 1, reconstruct={"max_evaluations": 0})
    regions = prepared(settings).regions
    folder = RunFolder(tmp_path / "run")
    journal = Journal(folder, lambda progress: None)
    fit = regions_model(regions, regions.imaging)
    begun, first, numbers = wedge.at_truth(fit, start(fit, journal).points, rois)
    nowhere = np.zeros(numbers.shape, dtype=bool)
    spectra = np.full((1, 4, 4), 2e-5)
    noise = NoiseModel(3e-4, (0.5, 0.1), "vacuum", Speckle(spectra, np.ones(1), np.zeros(1)))
    model, state = begin(begun, first, 1)
    state = dataclasses.replace(state, weights=weights(model, noise), damping=0.3)
    begins = np.zeros_like(state.stack.begins)
    begins[0, :2] = 1
    state = dataclasses.replace(state, stack=dataclasses.replace(state.stack, begins=begins))
    state = pool(model, state, journal, nowhere)
    folder.prepare("this", resume=False, overwrite=False)
    journal.note("one", 0.1)
    save(Standing(model, state, 2), journal)
    later = Journal(folder, lambda progress: None)
    found = restored(Standing(resuming(begun), first), later)
    assert found.done == 2
    assert later.rows == journal.rows
    assert found.model.sites.entrance == 1
    assert found.state.weights.noise.source == "vacuum"
    numbers = (surest_numbers(m, s).points for m, s in ((model, state), (found.model, found.state)))
    np.testing.assert_array_equal(*numbers)
    values = (objective(m, s, later) for m, s in ((model, state), (found.model, found.state)))
    assert len(set(values)) == 1
    assert found.state.damping == 0.3
    np.testing.assert_array_equal(found.state.stack.begins, begins)
    assert restored(Standing(begun, first), later).done == 0  # not asked to resume


def resuming(model: FieldModel) -> FieldModel:
    """The model of a run that goes on with an earlier one."""
    problem = model.regions.problem
    settings = dataclasses.replace(problem.settings, resume=True)
    problem = dataclasses.replace(problem, settings=settings)
    return dataclasses.replace(model, regions=dataclasses.replace(model.regions, problem=problem))
