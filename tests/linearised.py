"""Fields of the wedge at their true numbers, to first order."""

import dataclasses

import numpy as np

from qhrtem_jax.field.blocks import blocks_of
from qhrtem_jax.field.linear import FieldLinear, linearise, seen, situation
from qhrtem_jax.field.model import FieldModel, JointState
from qhrtem_jax.field.simulate import residuals
from qhrtem_jax.field.sweep import explain_unknown
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.regions.fit import start
from qhrtem_jax.regions.model import regions_model
from tests import wedge
from tests.runs import prepared


@dataclasses.dataclass
class Linearised:
    """A field of regions, one below the other, at its true numbers."""

    model: FieldModel
    state: JointState
    linear: FieldLinear
    numbers: np.ndarray
    journal: Journal

    def at(self, points):
        return dataclasses.replace(self.state, points=points)

    def with_numbers(self, numbers, points=None):
        points = (self.state.points if points is None else points).copy()
        points[:, self.model.layout.counts] = numbers
        return self.at(points)

    def residuals(self, state):
        return residuals(self.model, state, self.journal)

    def situation(self, state, *, unknown_free=True):
        missed = seen(self.linear, self.residuals(state))
        return situation(self.linear, state, missed, unknown_free=unknown_free)

    @property
    def blocks(self):
        return blocks_of(self.model.cells, "auto")

    @property
    def every(self):
        return np.arange(len(self.numbers))


def at_truth(path, rois) -> Linearised:
    """Some of the regions, at their true numbers."""
    settings = wedge.settings(
        path,
        wedge.REGIONS,
        data={"rois": [roi["origin_px"] for roi in rois]},
        specimen={"max_cells": 5},
        reconstruct={"max_evaluations": 0},
    )
    regions = prepared(settings).regions
    assert regions.imaging is not None
    journal = Journal(RunFolder(path / "run"), lambda progress: None)
    fit = regions_model(regions, regions.imaging)
    model, state, numbers = wedge.at_truth(fit, start(fit, journal).points, rois)
    state = explain_unknown(model, state, journal, 20)
    return Linearised(model, state, linearise(model, state, journal), numbers, journal)
