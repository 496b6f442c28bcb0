"""A network that finds atomic columns, trained on images of the simulator for the crystal at hand.

A small U-Net (Ronneberger, Fischer, Brox, MICCAI 2015) makes a map that is 1 on columns of atoms;
its maxima, refined to parts of a pixel, are the columns. Nothing is labelled by hand: the
places of the columns of simulated images are known.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray
from scipy.ndimage import center_of_mass, gaussian_filter, label, maximum_filter
from scipy.spatial import KDTree

from qhrtem_jax.exploration.windows import standardised

LEVELS = (8, 16, 32)
"""Channels of the U-Net at each scale."""

STRIDE = 2 ** (len(LEVELS) - 1)

BLOB = 0.18
"""Radius of a column in the map: this part of the distance to its nearest neighbour."""

FOUND = 0.3
"""Height of a maximum that counts as a column."""

NEIGHBOURS, SPACING = 2, 0.1
"""So many neighbours of a column, and how far (as a share) their distances may be from those in the
crystal: beyond, the image is of another."""

TILE, OVERLAP = 256, 32
"""Pixels of an image that the network sees at once, and by how many such parts overlap: more than
it looks around a pixel."""


class Convolution(nnx.Module):
    """Three by three, as one product of matrices: XLA's convolutions take ten times as long to
    differentiate on a processor."""

    def __init__(self, before: int, after: int, rngs: nnx.Rngs) -> None:
        self.product = nnx.Linear(9 * before, after, rngs=rngs)

    def __call__(self, x: Float[Array, "n rows cols c"]) -> Float[Array, "n rows cols d"]:
        rows, cols = x.shape[1:3]
        padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        near = [padded[:, i : i + rows, j : j + cols] for i in range(3) for j in range(3)]
        return self.product(jnp.concatenate(near, axis=-1))


class UNet(nnx.Module):
    """From images (mean 0, deviation 1) to the logit of a column in each pixel."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        def block(before: int, after: int) -> nnx.List:
            return nnx.List([Convolution(n, after, rngs) for n in (before, after)])

        sizes = (1, *LEVELS)
        self.down = nnx.List([block(a, b) for a, b in itertools.pairwise(sizes)])
        pairs = list(itertools.pairwise(LEVELS))
        self.up = nnx.List([block(a + b, a) for a, b in pairs])
        self.last = nnx.Linear(LEVELS[0], 1, rngs=rngs)

    def __call__(self, images: Float[Array, "n rows cols"]) -> Float[Array, "n rows cols"]:
        """Rows and columns are multiples of `STRIDE`."""

        def through(block: nnx.List, x: Array) -> Array:
            for convolution in block:
                x = nnx.gelu(convolution(x))
            return x

        x, kept = images[..., None], []
        for k, block in enumerate(self.down):
            if k:
                n, rows, cols, channels = x.shape
                x = x.reshape(n, rows // 2, 2, cols // 2, 2, channels).max(axis=(2, 4))
            x = through(block, x)
            kept.append(x)
        x = kept.pop()
        for block in reversed(list(self.up)):
            skipped = kept.pop()
            x = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
            x = through(block, jnp.concatenate([skipped, x], axis=-1))
        return self.last(x)[..., 0]


def cross_entropy(
    network: UNet,
    examples: tuple[Float[Array, "n rows cols"], Float[Array, "n rows cols"]],
    key: PRNGKeyArray,
) -> Float[Array, ""]:
    """Of the map against the places of the columns; pixels on columns weigh as much as the rest."""
    del key
    images, truth = examples
    logit = network(images)
    each = jax.nn.softplus(logit) - truth * logit
    weight = 1.0 + 4.0 * truth
    return jnp.sum(weight * each) / jnp.sum(weight)


def blobs(
    shape: tuple[int, int], places: Float[np.ndarray, "n 2"], radius: float
) -> Float[np.ndarray, "rows cols"]:
    """The map that is wanted: a bell of height 1 at each place (row, col)."""
    rows, cols = np.arange(shape[0]), np.arange(shape[1])
    found = np.zeros(shape)
    for r, c in places:
        one = np.exp(-0.5 * ((rows - r) / radius) ** 2)[:, None]
        found = np.maximum(found, one * np.exp(-0.5 * ((cols - c) / radius) ** 2))
    return found


@dataclasses.dataclass(frozen=True)
class Found:
    """Columns of an image: `places` (row, col) in pixels, how sure each is, and the map."""

    places: Float[np.ndarray, "n 2"]
    sure: Float[np.ndarray, " n"]
    map: Float[np.ndarray, "rows cols"]


def find_columns(network: UNet, image: Float[np.ndarray, "rows cols"], radius: float) -> Found:
    """The columns of an image; `radius` of one in pixels."""
    flat = standardised(image)
    found = np.zeros(image.shape)
    for rows in _tiles(image.shape[0]):
        for cols in _tiles(image.shape[1]):
            part = flat[rows[0], cols[0]]
            padding = [(0, -n % STRIDE) for n in part.shape]
            padded = jnp.asarray(np.pad(part, padding, mode="reflect")[None], jnp.float32)
            seen = np.asarray(jax.nn.sigmoid(_map(network, padded))[0], float)
            found[rows[1], cols[1]] = seen[rows[2], cols[2]]
    smooth = gaussian_filter(found, 0.5 * radius)
    peak = smooth == maximum_filter(smooth, size=2 * max(1, round(1.5 * radius)) + 1)
    peak &= found > FOUND
    labels = np.zeros(peak.shape, dtype=np.int32)
    label(peak, output=labels)
    start = np.array(center_of_mass(peak, labels, np.arange(1, labels.max() + 1))).reshape(-1, 2)
    places = _centred(smooth, start)
    at = np.rint(places).astype(int)
    inside = np.all((at >= 0) & (at < image.shape), axis=1)
    places, at = places[inside], at[inside]
    return Found(places, found[at[:, 0], at[:, 1]], found)


@nnx.jit
def _map(network: UNet, images: Float[Array, "n rows cols"]) -> Float[Array, "n rows cols"]:
    return network(images)


def _tiles(pixels: int) -> list[tuple[slice, slice, slice]]:
    """Parts of a line: what the network sees, what of it is kept, and where that is in it."""
    found = []
    for first in range(0, pixels, TILE - 2 * OVERLAP):
        last = min(first + TILE - 2 * OVERLAP, pixels)
        seen = slice(max(first - OVERLAP, 0), min(last + OVERLAP, pixels))
        found.append((seen, slice(first, last), slice(first - seen.start, last - seen.start)))
    return found


def _centred(
    found: Float[np.ndarray, "rows cols"], places: Float[np.ndarray, "n 2"]
) -> Float[np.ndarray, "n 2"]:
    """Tops of the parabolas through the logarithm of the map at maxima and beside them: exact for
    bells."""
    height = np.log(np.maximum(np.pad(found, 1, mode="edge"), 1e-6))
    at = np.rint(places).astype(int) + 1
    moved = places.astype(float).copy()
    for axis, step in enumerate(np.eye(2, dtype=int)):
        before, here, behind = (height[tuple((at + k * step).T)] for k in (-1, 0, 1))
        bend = np.minimum(before - 2.0 * here + behind, -1e-9)
        moved[:, axis] += np.clip(0.5 * (before - behind) / bend, -0.5, 0.5)
    return moved


def sureness(found: Found) -> float:
    """How sure a map is of what it shows: the mean height of its columns."""
    return float(found.sure.mean()) if len(found.sure) else 0.0


def spacings(places: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, " neighbours"]:
    """Median distances of places to their nearest neighbours, the nearest first."""
    apart, _ = KDTree(places).query(places, k=NEIGHBOURS + 1)
    return np.median(np.asarray(apart)[:, 1:], axis=0)


def unlike(
    found: Found,
    of_simulations: Float[np.ndarray, " images"],
    expected: Float[np.ndarray, " neighbours"],
) -> str | None:
    """Why an image is not like those that the network was trained on; None where it is.

    **Arguments:** `of_simulations`, `sureness` of unseen simulated images; `expected`, `spacings`
    of the crystal's columns.
    """
    least = float(of_simulations.min())
    if sureness(found) < least:
        return (
            f"its columns are found with {sureness(found):.2f} on the mean, those of all "
            f"{len(of_simulations)} simulated images with more than {least:.2f}"
        )
    apart = spacings(found.places)
    if np.any(np.abs(apart / expected - 1.0) > SPACING):
        shown, wanted = (", ".join(f"{n:.1f}" for n in each) for each in (apart, expected))
        return f"columns have neighbours {shown} pixels away, those of the crystal {wanted}"
    return None
