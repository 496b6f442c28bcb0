"""The lattice in images of rotated crystals, and the cells on it."""

import itertools

import numpy as np
import pytest

from qhrtem_jax.errors import InputError
from qhrtem_jax.micrograph.cells import Cells, cells_of, crystal_of, on_cells, whole_cells
from qhrtem_jax.micrograph.lattice import find_lattice, reflections_of

SIZE = (0.5523, 0.3905)  # nm, x and y
SITES = ((0.1, 0.25, 1.0), (0.62, 0.2, 0.7), (0.35, 0.7, 0.9), (0.85, 0.8, 0.4))
SAMPLING = 0.0091


def pictured(vectors, origin, shape, amplitude=1.0, width_px=5.0, aspect=1.0):
    """Gaussian columns on a lattice, at any rotation: no interpolation takes part. `aspect`: height
    of a pixel over its width."""
    rows, cols = shape
    image, far = np.zeros(shape), int(6 * width_px)
    reach = int(max(shape) / np.linalg.norm(vectors, axis=1).min()) + 3
    for i, j in itertools.product(range(-reach, reach + 1), repeat=2):
        for u, v, height in SITES:
            col, row = origin + (j + u) * vectors[0] + (i + v) * vectors[1]
            r = np.arange(max(int(row) - far, 0), min(int(row) + far, rows))
            c = np.arange(max(int(col) - far, 0), min(int(col) + far, cols))
            if r.size and c.size:
                r2 = (aspect * (r[:, None] - row)) ** 2 + (c - col) ** 2
                image[np.ix_(r, c)] += height * np.exp(-r2 / (2 * width_px**2))
    return 1.0 + amplitude * (image - image.mean())


def projected():
    y, x = np.mgrid[:48, :64] / np.array([48.0, 64.0])[:, None, None]
    total = np.zeros((48, 64))
    for u, v, height in SITES:
        for i in (-1, 0, 1):
            for j in (-1, 0, 1):
                r2 = ((x - u - j) * SIZE[0]) ** 2 + ((y - v - i) * SIZE[1]) ** 2
                total += height * np.exp(-r2 / (2 * 0.04**2))
    return total


def vectors(angle_deg, sampling=SAMPLING):
    turn = np.radians(angle_deg)  # counterclockwise on the screen
    a = np.array([np.cos(turn), -np.sin(turn)]) * SIZE[0] / sampling
    b = np.array([np.sin(turn), np.cos(turn)]) * SIZE[1] / sampling
    return np.array([a, b])


def noisy(image, seed=0, std=0.03):
    return image + std * np.random.default_rng(seed).normal(size=image.shape)


@pytest.mark.parametrize(("angle", "known"), [(3.7, True), (-21.0, False), (78.0, True)])
def test_rotation_and_scale_are_found(angle, known):
    true = vectors(angle)
    image = noisy(pictured(true, np.array([11.0, 7.0]), (240, 260)))
    pixels = (1 / (1.05 * SAMPLING), 1.05 / SAMPLING) if known else (20.0, 333.0)
    found = find_lattice(image, image > -9, reflections_of(projected(), SIZE), SIZE, pixels)
    assert found.angle_deg == pytest.approx(angle, abs=0.05)
    np.testing.assert_allclose(found.vectors, true, atol=0.06)
    assert found.std_scale < 3e-3
    assert found.match > 0.5


@pytest.mark.parametrize("aspect", [0.8, 1.15])
def test_pixels_need_not_be_square(aspect):
    true = vectors(8.0) / np.array([1.0, aspect])
    shape = (int(240 / aspect), 260)
    image = noisy(pictured(true, np.array([11.0, 7.0]), shape, aspect=aspect))
    side = SAMPLING * min(1.0, aspect)
    pixels = (1 / (1.05 * side), 1.05 / side)
    found = find_lattice(image, image > -9, reflections_of(projected(), SIZE), SIZE, pixels, aspect)
    assert found.angle_deg == pytest.approx(8.0, abs=0.05)
    np.testing.assert_allclose(found.vectors, true, atol=0.06)
    # in pixels, not all of them as long: lengths scale, a turn moves ends across
    scale, turn = found.std_scale, np.radians(found.std_deg)
    sides = np.array([1.0, aspect])
    ends = [
        (found.vectors * sides) @ ((1 + s) * np.array([[1.0, t], [-t, 1.0]])) / sides
        for s, t in ((scale, 0.0), (0.0, turn))
    ]
    moved = np.sqrt(sum((end - found.vectors) ** 2 for end in ends))
    np.testing.assert_allclose(found.std_px, moved, rtol=1e-6)


def test_pixels_that_are_too_coarse_are_refused():
    image = noisy(pictured(vectors(0.0), np.zeros(2), (120, 120)))
    with pytest.raises(InputError, match=r"found pixels of 0.08 nm or more, expected at most 0.05"):
        find_lattice(image, image > -9, reflections_of(projected(), SIZE), SIZE, (10.0, 12.5))


def test_another_crystal_is_refused():
    y, x = np.mgrid[:240, :260]
    image = 1.0 + 0.2 * np.cos(2 * np.pi * x / 31.0) * np.cos(2 * np.pi * y / 37.0)
    with pytest.raises(InputError, match=r"found no lattice of this crystal: .* zone and sampling"):
        find_lattice(
            noisy(image),
            image > -9,
            reflections_of(projected(), SIZE),
            SIZE,
            (1 / (1.02 * SAMPLING), 1.02 / SAMPLING),
        )


def test_whole_cells_are_those_within_the_crystal():
    lattice = vectors(2.0)
    image = pictured(lattice, np.array([5.0, 3.0]), (260, 300))
    image[:100] = 1.0
    where = crystal_of(noisy(image, std=0.01), 30.0, 1e-4)
    assert where[150:].mean() > 0.85
    assert where[:80].mean() < 0.02
    cells = cells_of(lattice, np.array([5.0, 3.0]))
    assert cells.shape == (43, 61)
    found = whole_cells(cells, where)
    corners = np.array([cells.corners((int(i), int(j))) for i, j in found])
    assert corners[..., 0].min() > -1.01
    assert corners[..., 0].max() < 300.01
    assert corners[..., 1].max() < 260.01
    assert corners[..., 1].min() > 80
    # every cell that lies in the crystal by a margin is among them
    everywhere = [(i, j) for i in range(-3, 9) for j in range(-3, 9)]
    inside = [
        c
        for c in everywhere
        if (k := cells.corners(c))[:, 0].min() > 1
        and k[:, 0].max() < 298
        and k[:, 1].min() > 110
        and k[:, 1].max() < 258
    ]
    assert len(inside) > 4
    assert set(inside) <= {(int(i), int(j)) for i, j in found}


def test_an_image_on_cells_is_the_image_at_rotated_places():
    """Against the same columns drawn on an upright lattice, far below any noise."""
    lattice, origin = vectors(3.1), np.array([42.3, 31.7])
    image = pictured(lattice, origin, (330, 340))
    cells = cells_of(lattice, origin)
    found = on_cells(image, cells, (0, 0), (4, 3))
    rows, cols = cells.shape
    upright = pictured(np.array([[cols, 0.0], [0.0, rows]]), np.zeros(2), (4 * rows, 3 * cols))
    # widths in pixels differ by less than a per cent
    assert found.image.shape == upright.shape
    inside = found.seen
    assert inside.mean() > 0.95
    error = np.sqrt(np.mean((found.image - upright - (found.image - upright).mean())[inside] ** 2))
    assert error < 0.01
    # no systematic shift: each corner is where it should be
    for cell in ((0, 0), (2, 1)):
        np.testing.assert_allclose(
            cells.to_file(np.array([[cell[1] * cols, cell[0] * rows]], float))[0],
            cells.corners(cell)[0],
        )


def test_what_the_file_does_not_show_is_taken_from_a_like_place():
    lattice = np.array([[40.0, 0.0], [0.0, 30.0]])
    y, x = np.mgrid[:95, :130].astype(float)
    image = 1.0 + np.cos(2 * np.pi * x / 40.0) * np.sin(2 * np.pi * y / 30.0)
    cells = Cells(np.zeros(2), lattice, (30, 40))
    found = on_cells(image, cells, (0, 0), (4, 4))
    assert found.seen[:95, :130].all()
    assert not found.seen[96:].any()
    np.testing.assert_allclose(found.image[96:120, :40], found.image[66:90, :40], atol=1e-3)
    np.testing.assert_allclose(found.image[:30, 131:160], found.image[:30, 91:120], atol=1e-3)
