"""A network that finds atomic columns, trained on images of the simulator for the crystal at hand.

A small U-Net (Ronneberger, Fischer, Brox, MICCAI 2015) makes a map that is 1 on columns of atoms;
its maxima, refined by their centres of mass, are the columns. Nothing is labelled by hand: the
places of the columns of simulated images are known.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, PRNGKeyArray
from scipy.ndimage import center_of_mass, gaussian_filter, label, maximum_filter

LEVELS = (8, 16, 32)
"""Channels of the U-Net at each scale."""

STRIDE = 2 ** (len(LEVELS) - 1)

BLOB = 0.18
"""Radius of a column in the map: this part of the distance to its nearest neighbour."""

FOUND = 0.3
"""Height of a maximum that counts as a column."""

TAIL = 0.01
"""Share of the simulated images that are less sure than what is taken as like them."""

DENSITY = (0.7, 1.3)
"""Columns found against those expected on the area of the crystal: beyond, the image is another."""


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
    rows, cols = image.shape
    padding = [(0, -n % STRIDE) for n in image.shape]
    flat = (image - image.mean()) / max(float(image.std()), 1e-12)
    padded = jnp.asarray(np.pad(flat, padding, mode="reflect")[None], jnp.float32)
    found = np.asarray(jax.nn.sigmoid(_map(network, padded))[0], float)[:rows, :cols]
    smooth = gaussian_filter(found, 0.5 * radius)
    peak = smooth == maximum_filter(smooth, size=2 * max(1, round(1.5 * radius)) + 1)
    peak &= found > FOUND
    labels = np.zeros(peak.shape, dtype=np.int32)
    label(peak, output=labels)
    start = np.array(center_of_mass(peak, labels, np.arange(1, labels.max() + 1))).reshape(-1, 2)
    places = _centred(found, start, radius)
    at = np.rint(places).astype(int)
    inside = np.all((at >= 0) & (at < image.shape), axis=1)
    places, at = places[inside], at[inside]
    return Found(places, found[at[:, 0], at[:, 1]], found)


@nnx.jit
def _map(network: UNet, images: Float[Array, "n rows cols"]) -> Float[Array, "n rows cols"]:
    return network(images)


def _centred(
    found: Float[np.ndarray, "rows cols"], places: Float[np.ndarray, "n 2"], radius: float
) -> Float[np.ndarray, "n 2"]:
    """Centres of mass of the map around maxima."""
    reach = max(1, round(1.5 * radius))
    padded = np.pad(found, reach)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    moved = []
    for r, c in places:
        i, j = round(float(r)), round(float(c))
        part = padded[i : i + 2 * reach + 1, j : j + 2 * reach + 1]
        total = part.sum()
        moved.append((i + (part * y).sum() / total, j + (part * x).sum() / total))
    return np.array(moved).reshape(-1, 2)


def sureness(found: Found) -> float:
    """How sure a map is of what it shows: the mean height of its columns."""
    return float(found.sure.mean()) if len(found.sure) else 0.0


def unlike(
    found: Found,
    of_simulations: Float[np.ndarray, " images"],
    expected: float,
    crystal: Bool[np.ndarray, "rows cols"] | None = None,
) -> str | None:
    """Why an image is not like those that the network was trained on; None where it is.

    **Arguments:** `of_simulations`, `sureness` of unseen simulated images; `expected` columns per
    pixel of crystal; `crystal`, where there is some (None: everywhere).
    """
    area = found.map.size if crystal is None else int(crystal.sum())
    density = len(found.places) / max(expected * area, 1e-12)
    least = float(np.quantile(of_simulations, TAIL))
    if sureness(found) < least:
        return (
            f"its columns are found with {sureness(found):.2f} on the mean, those of "
            f"{100 * (1 - TAIL):g} % of the simulated images with more than {least:.2f}"
        )
    if not DENSITY[0] <= density <= DENSITY[1]:
        return f"{density:.2f} times as many columns are found as the crystal has there"
    return None
