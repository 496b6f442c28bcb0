"""The learned parts: turned windows, columns of atoms, a training that goes on where it stood."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.ndimage import rotate, shift

from qhrtem_jax.exploration.atom_finder import (
    UNet,
    _centred,
    blobs,
    cross_entropy,
    find_columns,
    unlike,
)
from qhrtem_jax.exploration.autoencoder import (
    ANGLE_RAD,
    RotationalAutoencoder,
    evidence,
    latent_maps,
)
from qhrtem_jax.exploration.training import Schedule, train


def silent(done, count):
    pass


def bar(side, angle_deg, bright):
    """A bar through the middle, turned."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2.0
    along = np.deg2rad(angle_deg)
    across = np.abs(-np.sin(along) * x + np.cos(along) * y)
    return bright * np.exp(-0.5 * (across / 1.5) ** 2)


def test_the_decoder_turns_and_moves_images():
    side = 21
    image = bar(side, 20.0, 1.0) + 0.5 * blobs((side, side), np.array([[4.0, 15.0]]), 2.0)
    network = RotationalAutoencoder(image, 2, 1.0, nnx.Rngs(0))
    pose = jnp.array([[0.5, 0.0, 0.0, 0.0, 0.0], [0.0, 2.0, -1.0, 0.0, 0.0]])
    still = np.asarray(network.decode(jnp.zeros((1, 5))))[0]
    turned, moved = np.asarray(network.decode(pose))
    inner = (slice(4, -4), slice(4, -4))
    angle = np.degrees(0.5 * ANGLE_RAD)
    expected = rotate(still, -angle, reshape=False, order=1, mode="nearest")
    np.testing.assert_allclose(turned[inner], expected[inner], atol=1e-3)
    assert np.abs(turned - still)[inner].max() > 0.1
    expected = shift(still, (-2.0, 1.0), order=1, mode="nearest")
    np.testing.assert_allclose(moved[inner], expected[inner], atol=1e-5)


def test_content_tells_kinds_apart_and_the_angle_how_they_are_turned():
    rng = np.random.default_rng(0)
    kinds, angles = np.arange(400) % 4 == 0, rng.normal(0.0, 12.0, 400)
    windows = np.array(
        [bar(17, a, 0.7 if rare else 1.0) for rare, a in zip(kinds, angles, strict=True)]
    )
    windows = (windows + 0.03 * rng.normal(size=windows.shape)).astype(np.float32)
    network = RotationalAutoencoder(windows.mean(axis=0), 2, 0.0, nnx.Rngs(0))
    trained = train(network, evidence, (windows,), Schedule(40), silent)
    assert isinstance(trained, RotationalAutoencoder)
    maps = latent_maps(trained, windows)
    assert maps.shape == (4, 400)
    content = [abs(np.corrcoef(found, kinds)[0, 1]) for found in maps[:2]]
    assert max(content) > 0.9
    assert abs(np.corrcoef(maps[2], angles)[0, 1]) > 0.9


def dots(count, side, rng, bright=1.0):
    """Images of dots on a lattice that begins anywhere, and their maps."""
    images, maps, all_places = [], [], []
    for _ in range(count):
        start = rng.uniform(0.0, 8.0, 2)
        steps = np.stack(np.meshgrid(*(np.arange(-8, side + 8, 8.0),) * 2, indexing="ij"), -1)
        places = steps.reshape(-1, 2) + start
        image = bright * blobs((side, side), places, 1.8) + 0.1 * rng.normal(size=(side, side))
        images.append((image - image.mean()) / image.std())
        maps.append(blobs((side, side), places, 1.3))
        all_places.append(places)
    return np.array(images, np.float32), np.array(maps, np.float32), all_places


@pytest.fixture(scope="module")
def finder():
    images, maps, _ = dots(48, 32, np.random.default_rng(0))
    schedule = Schedule(25, batch=8, rate=5e-3)
    found = train(UNet(nnx.Rngs(0)), cross_entropy, (images, maps), schedule, silent)
    assert isinstance(found, UNet)
    return found


@pytest.mark.parametrize("radius", [1.3, 2.0, 3.1])
def test_tops_of_bells_are_found_between_pixels(radius):
    rng = np.random.default_rng(1)
    steps = np.stack(np.meshgrid(*(np.arange(15.0, 100.0, 14.0),) * 2, indexing="ij"), -1)
    places = steps.reshape(-1, 2) + rng.uniform(-0.5, 0.5, (49, 2))
    found = _centred(blobs((120, 120), places, radius), np.rint(places))
    assert np.abs(found - places).max() < 0.01


def test_columns_are_found_to_a_tenth_of_a_pixel(finder):
    rng = np.random.default_rng(9)
    images, _, places = dots(1, 45, rng)  # of another size, no multiple of anything
    found = find_columns(finder, np.asarray(images[0], float), 1.3)
    inside = np.all((places[0] > 3) & (places[0] < 41), axis=1)
    apart = np.hypot(*(found.places[:, None] - places[0][inside]).transpose(2, 0, 1))
    assert np.sqrt(np.mean(apart.min(axis=0) ** 2) / 2.0) < 0.1  # along each axis
    assert np.abs(len(found.places) - (45 / 8) ** 2) < 12


def test_large_images_are_seen_in_parts(finder):
    """Which join without a seam."""
    images, _, places = dots(1, 300, np.random.default_rng(2))
    found = find_columns(finder, np.asarray(images[0], float), 1.3)
    inside = np.all((places[0] > 3) & (places[0] < 296), axis=1)
    apart = np.hypot(*(found.places[:, None] - places[0][inside]).transpose(2, 0, 1))
    assert apart.min(axis=0).max() < 0.5
    assert len(found.places) < 1.1 * inside.sum() + 80


SPACINGS = np.full(2, 8.0)


def test_an_image_of_something_else_is_said(finder):
    images, _, _ = dots(8, 48, np.random.default_rng(5))
    known = [find_columns(finder, np.asarray(i, float), 1.3).sure.mean() for i in images]
    sure = np.array(known)
    with_vacuum = np.concatenate([np.asarray(images[0], float), np.full((60, 48), -0.5)])
    for same in (np.asarray(images[1], float), with_vacuum):
        assert unlike(find_columns(finder, same, 1.3), sure - 0.05, SPACINGS) is None
    noise = np.random.default_rng(3).normal(size=(64, 64))
    assert unlike(find_columns(finder, noise, 1.3), sure, SPACINGS) is not None
    steps = np.stack(np.meshgrid(np.arange(4, 60, 6.5), np.arange(4, 60, 9.5)), -1)
    other = blobs((60, 60), steps.reshape(-1, 2), 1.8)  # as dense
    said = unlike(find_columns(finder, other, 1.3), sure - 0.5, SPACINGS)
    assert said is not None
    assert "neighbours" in said


def test_a_training_goes_on_to_the_same_network():
    images, maps, _ = dots(24, 16, np.random.default_rng(0))
    kept = []

    def trained(saved):
        return train(
            UNet(nnx.Rngs(1)),
            cross_entropy,
            (images, maps),
            Schedule(14, batch=8),
            silent,
            saved,
            kept.append,
        )

    whole = trained(None)
    assert len(kept) == 1
    again = trained(kept[0])
    one, other = (jax.tree.leaves(nnx.state(network)) for network in (whole, again))
    assert len(one) == len(other) > 10
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)
    start = jax.tree.leaves(nnx.state(UNet(nnx.Rngs(1))))
    assert any(np.any(np.asarray(a) != np.asarray(b)) for a, b in zip(one, start, strict=True))


def test_training_ends_where_unseen_examples_get_no_better():
    """Noise cannot be learned: the best parameters are those of early epochs."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(20, 8, 8)).astype(np.float32)
    maps = (rng.uniform(size=(20, 8, 8)) > 0.5).astype(np.float32)
    epochs = []
    train(
        UNet(nnx.Rngs(0)),
        cross_entropy,
        (images, maps),
        Schedule(400, batch=9, rate=2e-2, patience=5),
        lambda done, count: epochs.append(done),
    )
    assert len(epochs) < 150
