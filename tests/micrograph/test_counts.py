"""Bad pixels and vacuum of images whose truth is known."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from qhrtem_jax.errors import InputError
from qhrtem_jax.micrograph.counts import (
    Vacuum,
    bad_pixels,
    contrast_of,
    find_vacuum,
    illumination,
    normalised,
    without_bad,
)

LEVEL, NOISE = 1600.0, 0.013


def counts(rows=220, cols=200, first=70, seed=0, contrast=0.25):
    """Bright columns below row `first`, vacuum above, noise that a camera has correlated."""
    y, x = np.mgrid[:rows, :cols]
    lattice = np.cos(2 * np.pi * x / 21.3) * np.cos(2 * np.pi * y / 22.1)
    lattice = contrast * np.where(y >= first, lattice + 0.4 * lattice**2, 0.0)
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=(rows, cols)), 0.8)
    return LEVEL * (1.0 + gaussian_filter(lattice, 2.0) + NOISE * noise / noise.std())


def test_a_slope_of_the_light_is_measured_in_the_vacuum():
    light = 1.0 + 2e-4 * (np.arange(220)[:, None] - 30.0) - 1e-4 * (np.arange(200) - 90.0)
    pulls = []
    for seed in range(12):
        image = counts(seed=seed) * light
        region = (5, 4, 50, 190)
        found = illumination(image, Vacuum(region, 1.0))
        level = light[region[0] : region[0] + region[2], region[1] : region[1] + region[3]].mean()
        for slope, std, true in zip(found.slope, found.std, (2e-4, -1e-4), strict=True):
            pulls.append((slope - true / level) / std)
        flat = image / found.over(image.shape)
        for axis in (0, 1):
            level = flat[5:55, 4:194].mean(axis=axis), image[5:55, 4:194].mean(axis=axis)
            assert np.std(level[0]) < 0.8 * np.std(level[1])
    assert 0.5 < np.sqrt(np.mean(np.square(pulls))) < 1.6


def test_bad_pixels_are_found_and_no_others():
    image = counts()
    wrong = [(5, 7, 65000.0), (100, 120, 0.0), (150, 33, np.nan), (0, 0, 3200.0)]
    wrong += [(180, 90, 6000.0), (180, 91, 6000.0), (60, 199, np.inf)]  # two beside each other
    for row, col, value in wrong:
        image[row, col] = value
    bad = bad_pixels(image)
    assert {(int(r), int(c)) for r, c in zip(*np.nonzero(bad), strict=True)} == {
        (r, c) for r, c, _ in wrong
    }
    filled = without_bad(image, bad)
    true = counts()
    assert np.abs(filled - true)[bad].max() < 0.12 * LEVEL
    np.testing.assert_array_equal(filled[~bad], true[~bad])
    # units do not matter
    np.testing.assert_array_equal(bad_pixels(image / LEVEL), bad)


def test_a_large_dead_patch_is_filled_from_its_border():
    image = counts()
    bad = np.zeros(image.shape, bool)
    bad[20:40, 30:50] = True
    filled = without_bad(np.where(bad, np.nan, image), bad)
    assert np.all(np.isfinite(filled))
    assert abs(filled[bad].mean() / LEVEL - 1.0) < 0.02


@pytest.mark.parametrize("first", [50, 120])
def test_the_vacuum_is_the_largest_part_without_contrast(first):
    found = find_vacuum(counts(first=first))
    assert found is not None
    row, col, rows, cols = found.region
    assert row + rows <= first
    assert rows * cols > 0.6 * first * 200
    assert found.level == pytest.approx(LEVEL, rel=1e-3)
    on_the_right = find_vacuum(counts(first=first).T.copy())
    assert on_the_right is not None
    assert on_the_right.region[1] + on_the_right.region[3] <= first
    assert col + cols <= 200


def test_an_image_full_of_crystal_has_no_vacuum():
    assert find_vacuum(counts(first=0)) is None
    assert find_vacuum(counts(first=220)) is None  # nor one of vacuum alone a crystal beside it
    assert find_vacuum(counts()[:20, :20]) is None


def test_no_level_of_nothing():
    np.testing.assert_allclose(normalised(np.array([[2.0, 4.0]]), 2.0), [[1.0, 2.0]])
    with pytest.raises(InputError, match="level of the vacuum: found -3"):
        normalised(np.ones((2, 2)), -3.0)


def test_a_patch_that_reaches_into_the_crystal_shows_it():
    image = counts(first=70) / LEVEL
    assert contrast_of(image[:60]) < 3.5
    assert contrast_of(image[:95]) > 8.0
    assert contrast_of(image[:10]) == 1.0  # too small to tell
