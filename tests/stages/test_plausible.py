"""Input that is plainly wrong is spoken of before any fit."""

import numpy as np
import pytest

from qhrtem_jax.inputs.image import load_field
from qhrtem_jax.inputs.plausible import strange_region
from qhrtem_jax.inputs.reader import Reader
from qhrtem_jax.inputs.settings import DataSettings
from qhrtem_jax.physics.camera import Frame
from tests.micrograph.test_counts import LEVEL, counts

SIZE = (0.5665, 0.4006, 0.5665)


def test_a_region_is_compared_with_the_cell():
    assert strange_region(Frame((45, 64), (0.00887, 0.00887)), SIZE) is None
    for frame, size in (
        (Frame((45, 64), (8.87, 8.87)), SIZE),  # picometres
        (Frame((45, 64), (0.00887, 0.00887)), (0.4006, 0.4006, 0.4006)),  # [001]
        (Frame((64, 45), (0.00887, 0.00887)), SIZE),
    ):
        found = strange_region(frame, size)
        assert found is not None
        assert "crystal and zone" in found
        assert f"{size[0]:.4g} x {size[1]:.4g} nm" in found


@pytest.mark.parametrize(("rows", "said"), [(60, False), (95, True)])
def test_a_vacuum_that_holds_atoms_is_spoken_of(tmp_path, rows, said):
    path = tmp_path / "image.npy"
    np.save(path, counts(first=70) / LEVEL)
    reader = Reader()
    data = DataSettings(image=str(path), sampling_nm=0.009, vacuum=(0, 0, rows, 200))
    load_field(data, reader)
    told = [w for w in reader.warnings() if w.startswith("data.vacuum=[0, 0")]
    assert bool(told) == said
    if said:
        assert "is not empty" in told[0]
        assert "the image looks empty in [0, 0" in told[0]
