"""Frames of a drifting specimen, brought together."""

import json

import numpy as np
import pytest

from qhrtem_jax.micrograph.stack import registered_mean
from tests.conftest import SHARED

DRIFTS = np.array([[0.0, 0.0], [0.6, -0.9], [1.45, -2.2], [-3.3, 4.75]])  # x, y


def frame(drift, noise, seed):
    """Columns of a crystal that ends, seen by a camera over which it moves by `drift`."""
    y, x = np.mgrid[:140, :120].astype(float)
    x, y = x - drift[0], y - drift[1]
    lattice = 0.3 * np.cos(2 * np.pi * x / 20.3) * np.cos(2 * np.pi * y / 22.7)
    crystal = 1.0 / (1.0 + np.exp((60.0 - y) / 6.0))
    thick = 1.0 + 0.3 * np.sin(2 * np.pi * (x + y) / 90.0)
    image = 1600.0 * (1.0 + crystal * thick * lattice)
    return image * (1.0 + noise * np.random.default_rng(seed).normal(size=image.shape))


def test_drifts_are_found_and_the_mean_has_less_noise():
    frames = np.array([frame(d, 0.02, k) for k, d in enumerate(DRIFTS)])
    mean, drifts = registered_mean(frames)
    np.testing.assert_allclose(drifts, DRIFTS, atol=0.1)
    inside = (slice(12, -12), slice(12, -12))
    apart = np.std((mean - frame((0.0, 0.0), 0.0, 0))[inside]) / 1600.0
    assert apart < 1.15 * 0.02 / np.sqrt(len(frames))


def test_bad_pixels_are_taken_from_the_frames_that_see_their_place():
    frames = np.array([frame(d, 0.01, k) for k, d in enumerate(DRIFTS)])
    clean, _ = registered_mean(frames)
    frames[:, 70, 40] = 65000.0  # of the camera
    frames[1, 90, 90] = np.nan
    mean, drifts = registered_mean(frames)
    np.testing.assert_allclose(drifts, DRIFTS, atol=0.1)
    assert np.abs(mean - clean).max() < 0.02 * 1600.0
    still = np.array([frames[0], frames[0]])
    mean, drifts = registered_mean(still)
    assert abs(mean[70, 40] - frame(DRIFTS[0], 0.0, 0)[70, 40]) < 0.1 * 1600.0
    np.testing.assert_allclose(drifts, 0.0, atol=0.02)


def test_drifts_of_a_series_of_another_program():
    path = SHARED / "data/synthetic/series.npz"
    if not path.is_file():
        pytest.skip("needs the shared data")
    with np.load(path) as content:
        truth = json.loads(str(content["truth"]))["frames"]
        _, drifts = registered_mean(content["noisy"])
    expected = -np.array([one["drift_px_xy"] for one in truth])  # of the frame over the specimen
    assert np.sqrt(np.mean((drifts - expected) ** 2)) < 0.1
