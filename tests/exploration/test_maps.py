"""Windows, what they are mixtures of, and which map is looked at."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from qhrtem_jax.exploration.selection import anomaly, by_number, by_reference, most_anomalous
from qhrtem_jax.exploration.unmixing import UNMIXING
from qhrtem_jax.exploration.windows import magnitudes, natural_side, patches, windows_of


def lattice(shape, periods, phase=0.0):
    """Waves along rows and columns."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.cos(2 * np.pi * y / periods[0] + phase) + np.cos(2 * np.pi * x / periods[1] + phase)


@pytest.mark.parametrize(("shape", "side"), [((100, 131), 24), ((64, 64), 31), ((40, 900), 20)])
def test_windows_cover_the_image_and_stay_inside(shape, side):
    windows = windows_of(shape, side)
    seen = np.zeros(shape, dtype=int)
    for row, col in windows.centres:
        top, left = row - side // 2, col - side // 2
        assert min(top, left) >= 0
        assert top + side <= shape[0]
        assert left + side <= shape[1]
        seen[top : top + side, left : left + side] += 1
    assert seen.min() >= 1
    image = np.arange(np.prod(shape), dtype=float).reshape(shape)
    squares = patches(image, windows.centres, side)
    row, col = windows.centres[-1] - side // 2
    np.testing.assert_array_equal(squares[-1], image[row : row + side, col : col + side])


def test_large_images_have_no_more_windows():
    assert len(windows_of((4096, 4096), 32).centres) < 5000


def test_windows_hold_four_of_the_longest_periods():
    image = lattice((256, 300), (11.0, 16.0)) + 0.5 * lattice((256, 300), (5.5, 8.0))
    assert natural_side(image) == pytest.approx(64, abs=2)
    drifting = image + np.linspace(0.0, 3.0, 300)  # uneven illumination is no lattice
    assert natural_side(drifting) == pytest.approx(64, abs=2)


def test_magnitudes_are_the_same_wherever_a_window_stands():
    squares = np.array([lattice((48, 48), (8.0, 12.0), phase) for phase in (0.0, 1.0, 2.5)])
    same = magnitudes(squares)
    other = magnitudes(np.concatenate([squares[:1], lattice((48, 48), (8.0, 10.0))[None]]))
    assert same.mean() == pytest.approx(1.0)
    assert np.abs(same[1:] - same[0]).max() < 0.05 * same.max()
    assert np.abs(other[1] - other[0]).max() > 0.4 * other.max()


@pytest.mark.parametrize("name", UNMIXING)
def test_mixtures_are_taken_apart(name):
    """Three spectra, pure in some windows; noise of a per cent."""
    rng = np.random.default_rng(4)
    pure = gaussian_filter(rng.uniform(size=(3, 80)), (0, 2.0)) ** 4
    pure /= pure.mean(axis=1, keepdims=True)
    shares = rng.dirichlet([0.5] * 3, 300)
    shares[:3] = np.eye(3)
    mixed = np.maximum(shares @ pure + 0.01 * rng.normal(size=(300, 80)), 0.0)
    found = UNMIXING[name](mixed, 2 if name == "pca" else 3, 0)
    # each share is a linear function of what was found
    basis = np.concatenate([found, np.ones((300, 1))], axis=1)
    fitted = basis @ np.linalg.lstsq(basis, shares, rcond=None)[0]
    assert np.sqrt(np.mean((fitted - shares) ** 2)) < 0.05
    if name == "nfindr":
        assert np.all(found > -1e-9)
        np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=0.05)
        right = np.abs(np.corrcoef(found.T, shares.T)[:3, 3:])
        assert np.all(right.max(axis=1) > 0.98)


def a_part(shape=(30, 40)):
    part = np.zeros(shape, dtype=bool)
    part[5:13, 20:27] = True
    return part


def test_the_anomalous_map_is_found_and_turned():
    rng = np.random.default_rng(0)
    part = a_part()
    maps = rng.normal(size=(4, 30, 40))
    maps[1] += np.linspace(-3.0, 3.0, 40)  # varies, but nothing is rare
    maps[3, rng.integers(30, size=5), rng.integers(40, size=5)] += 20.0  # single places
    maps[2] -= 4.0 * part
    chosen = most_anomalous(maps)
    assert chosen.number == 2
    assert chosen.map[part].mean() > chosen.map[~part].max() / 2.0
    assert (np.median(chosen.map), chosen.map.max()) == pytest.approx((0.0, 1.0))
    assert anomaly(maps[2]) < 0.0 < anomaly(-maps[2])
    assert anomaly(np.ones((4, 4))) == 0.0


def test_a_reference_chooses_the_map_that_tells_it_from_the_rest():
    rng = np.random.default_rng(0)
    part = a_part()
    maps = rng.normal(size=(3, 30, 40))
    maps[0] += 3.0 * a_part()[::-1]
    maps[1] -= 1.5 * part
    chosen = by_reference(maps, part)
    assert chosen.number == 1
    assert chosen.map[part].mean() > chosen.map[~part].mean()
    assert "standard deviations" in chosen.why
    assert by_number(maps, 2).number == 2
