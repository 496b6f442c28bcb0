"""How noise grows with the intensity, measured on images whose noise is known."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from qhrtem_jax.micrograph.noise_growth import grown, noise_growth

SHAPE, PERIOD = (160, 180), 23.0


def measured(image, bad=None):
    found = noise_growth(image, bad)
    assert found is not None
    return found


def lattice(scale=1.0, bent=0.0):
    """Columns, brighter and darker than the vacuum above them; `scale` of their size in pixels;
    `bent` along y, by so much in pixels a square pixel."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    y, x = y / (PERIOD * scale), (x + bent * y**2) / (PERIOD * scale)
    waves = sum(np.cos(2.0 * np.pi * (a * y + b * x)) for a, b in ((1, 0), (0, 1), (1, 1), (2, 1)))
    return 1.0 + 0.12 * waves / (1.0 + np.exp(-10.0 * (y * scale - 2.0)))


def counted(clean, slope, seed):
    """An image whose noise has variance 2e-4 (1 + slope (I - 1)), spread over pixels."""
    noise = np.random.default_rng(seed).normal(size=clean.shape)
    spread = gaussian_filter(noise * np.sqrt(1.0 + slope * (clean - 1.0)), 0.5)
    return clean + 2e-4**0.5 * spread / gaussian_filter(noise, 0.5).std()


@pytest.mark.parametrize("slope", [0.0, 0.5, 1.0])
def test_is_found_with_its_error(slope):
    found = [measured(counted(lattice(), slope, seed)) for seed in range(12)]
    slopes, std = np.array([f.slope for f in found]), np.array([f.std for f in found])
    assert np.all(std < 0.2)
    assert np.mean(slopes) == pytest.approx(slope, abs=4.0 * np.mean(std) / len(found) ** 0.5)
    assert 0.6 < np.std(slopes) / np.mean(std) < 1.6
    weighs = {grown(f, 2e-4) > 0.0 for f in found}
    assert weighs == {slope > 0.0}
    assert max(grown(f, 2e-4) for f in found) <= 1.0
    assert all(grown(f, 2e-3) == 0.0 for f in found)


def test_bad_pixels_say_nothing():
    image = counted(lattice(), 0.0, 3)
    bad = (lattice() > 1.1) & (np.random.default_rng(0).random(SHAPE) < 0.05)
    filled = np.where(bad, gaussian_filter(image, 2.0), image)  # without noise of their own
    plain, without = measured(image), measured(filled, bad)
    assert abs(without.slope - plain.slope) < 2.0 * without.std
    assert abs(measured(filled).slope - plain.slope) > 3.0 * plain.std


@pytest.mark.parametrize("period", [4.0, 6.0, 9.0])
@pytest.mark.parametrize("bent", [0.0, 2e-4])
def test_where_pixels_are_coarse_the_lattice_is_not_taken_for_noise(period, bent):
    """Straight, and bent so that it is no single frequency."""
    clean = lattice(period / PERIOD, bent)
    found = [noise_growth(counted(clean, 0.0, seed)) for seed in range(4)]
    assert all(grown(f, 2e-4) == 0.0 for f in found)


def test_of_few_electrons_more_growth_is_found():
    """As the intensity at hand holds the same electrons."""
    rng = np.random.default_rng(5)
    many, few = (measured(rng.poisson(n * lattice()) / n) for n in (2000, 20))
    assert many.slope == pytest.approx(1.0, abs=4.0 * many.std)
    assert 1.0 < few.slope < 1.5


@pytest.mark.parametrize(
    "image",
    [
        np.ones(SHAPE),
        np.ones((12, 400)),
        np.random.default_rng(0).normal(1.0, 0.01, (20, 20)),
        np.where(np.arange(SHAPE[1]) < 20, np.random.default_rng(1).normal(1.0, 0.1, SHAPE), 0.0),
    ],
)
def test_nothing_is_told_where_nothing_can_be(image):
    assert noise_growth(image) is None
