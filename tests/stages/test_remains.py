"""What a refined field leaves over, of residuals that were made of known parts."""

import numpy as np
import pytest

from qhrtem_jax.field.remains import PARTS, column_basis, decomposed
from qhrtem_jax.field.remains_drawings import draw_remains, remains_table
from qhrtem_jax.matching.noise import NoiseModel
from qhrtem_jax.matching.speckle import cosines, in_cosines

SHAPE, SAMPLING = (45, 64), (0.009, 0.0088)
NOISE = NoiseModel(2e-4, (0.4, 0.1))
PLACES = np.array([[5.0, 40.0], [31.0, 12.0], [50.0, 33.0]])
COUNT = 400


def basis():
    return column_basis(PLACES, np.array([64.0, 45.0]), np.array([4.5, 4.5]), SHAPE)


def camera(rng, count=COUNT):
    """Noise of the camera, correlated as it says."""
    rows, cols = (np.linalg.cholesky(NOISE.correlation(n)) for n in SHAPE)
    return np.sqrt(NOISE.variance) * (rows @ rng.normal(size=(count, *SHAPE)) @ cols.T)


def without_smooth(images):
    """Peaks are a little smooth, too."""
    coordinates = in_cosines(images)
    coordinates[:, :2, :2] = 0.0
    return cosines(SHAPE[0]).T @ coordinates @ cosines(SHAPE[1])


def test_of_noise_alone_each_part_has_its_share():
    found = decomposed(camera(np.random.default_rng(1)), basis(), NOISE, SAMPLING).remains
    assert tuple(part.name for part in found.parts) == PARTS
    for part, tolerance in zip(found.parts, (0.15, 0.15, 0.1, 0.02), strict=True):
        assert part.power == pytest.approx(part.noise, rel=tolerance)
    assert sum(part.noise for part in found.parts) == pytest.approx(NOISE.variance)
    for band in found.bands:
        assert band.between == pytest.approx(band.noise, rel=0.1)
    # one mean cell says little: many fields of few regions
    fields = camera(np.random.default_rng(4)).reshape(-1, 4, *SHAPE)
    bands = [decomposed(field, basis(), NOISE, SAMPLING).remains.bands for field in fields]
    some = [k for k, band in enumerate(bands[0]) if band.on_lattice is not None]
    on_lattice = [[each[k].on_lattice / each[k].noise for k in some] for each in bands]
    between = [[each[k].between / each[k].noise for k in some] for each in bands]
    np.testing.assert_allclose(np.mean(on_lattice, axis=0), 1.0, atol=0.2)
    np.testing.assert_allclose(np.mean(between, axis=0), 1.0, atol=0.1)


def test_known_parts_are_found():
    rng = np.random.default_rng(2)
    y, x = (np.arange(n) / n for n in SHAPE)
    alike = 0.02 * np.outer(np.sin(6 * np.pi * y), np.sin(8 * np.pi * x))
    slow = 0.03 * rng.normal(size=(COUNT, 1, 1)) * np.outer(np.cos(np.pi * (y + 0.5 / 45)), x**0)
    peaks = 0.05 * np.einsum("kc,cyx->kyx", rng.normal(size=(COUNT, 3)), basis()[::3])
    rough = 0.01 * rng.normal(size=(COUNT, *SHAPE))
    peaks = without_smooth(peaks)
    slow, peaks, rough = (part - part.mean(axis=0) for part in (slow, peaks, rough))
    missed = alike + slow + peaks + rough
    decomposition = decomposed(missed, basis(), NOISE, SAMPLING)
    parts = {part.name: part.power for part in decomposition.remains.parts}
    np.testing.assert_allclose(decomposition.images.sum(axis=0), missed, atol=1e-12)
    assert sum(parts.values()) == pytest.approx(np.mean(missed**2), rel=1e-9)
    for name, part in zip(PARTS, (alike, slow, peaks, rough), strict=True):
        # what is rough is a little of everything
        assert parts[name] == pytest.approx(np.mean(part**2), rel=0.05)
    np.testing.assert_allclose(decomposition.images[0, 0], alike, atol=1e-12)


def test_what_all_cells_miss_alike_is_on_the_lattice(tmp_path):
    y, x = (np.arange(n) / n for n in SHAPE)
    wave = 0.05 * np.outer(np.sin(2.0 * np.pi * 3.0 * y), np.ones_like(x))
    noise = camera(np.random.default_rng(3), 9)
    found = decomposed(noise + wave, basis(), NOISE, SAMPLING)
    at = 3.0 / (SHAPE[0] * SAMPLING[0])
    bands = found.remains.bands
    (here,) = (band for band in bands if band.from_per_nm <= at < band.to_per_nm)
    assert here.on_lattice > 20.0 * here.between
    assert here.between == pytest.approx(here.noise, rel=0.3)
    others = [band for band in bands if band is not here and band.on_lattice is not None]
    assert len(others) > 5
    assert all(band.on_lattice < 4.0 * band.noise for band in others)
    assert bands[0].on_lattice is not None  # the mean
    without = decomposed(noise, basis(), None, SAMPLING).remains
    assert all(part.noise is None for part in without.parts)
    for remains in (found.remains, without):
        draw_remains(tmp_path / "remains.png", remains, found.images[:, 0])
        assert len(remains_table(remains).rows) == len(PARTS)


def test_a_column_at_the_edge_goes_on_behind_it():
    peak = column_basis(np.array([[0.0, 0.0]]), np.array([64.0, 45.0]), np.full(2, 4.0), SHAPE)[0]
    assert peak[0, 0] == peak.max()
    np.testing.assert_allclose(peak[1:], peak[:0:-1])
    np.testing.assert_allclose(peak[:, 1:], peak[:, :0:-1])
