"""What disordered layers would add to the images of regions, for `matching.weights`."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, PRNGKeyArray

from qhrtem_jax.matching.speckle import UNEXPLAINED, power_in_cosines
from qhrtem_jax.matching.weights import Fitted, PossibleLayers
from qhrtem_jax.physics.columns import Sites
from qhrtem_jax.physics.disordered_layer import DisorderedLayers
from qhrtem_jax.physics.parameters import Formation
from qhrtem_jax.physics.structured import StructuredSimulator
from qhrtem_jax.refine.coordinates import Coordinates
from qhrtem_jax.refine.regions import RegionModel

SOME = 4
"""Regions that stand for all."""

PLACES = 64
"""Places of atoms, over all of these, that spectra are the mean of: errors of some per cent."""


def possible_layers(
    layers: DisorderedLayers,
    fit: RegionModel,
    sites: Sites,
    own: Coordinates,
    every: Coordinates,
    points: Float[np.ndarray, "regions point"],
    key: PRNGKeyArray,
) -> PossibleLayers:
    """Layers on regions at `points`, each fitted in its `own` coordinates, all in `every` one."""
    some = np.unique(np.rint(np.linspace(0, len(points) - 1, SOME)).astype(int))
    few = points[some]
    draws = -(-PLACES // len(few))
    spectra = np.mean(
        [
            _powers(layers, fit, sites, point, jax.random.split(one, draws))
            for point, one in zip(few, jax.random.split(key, len(few)), strict=True)
        ],
        axis=0,
    )
    spectra[UNEXPLAINED] /= spectra[UNEXPLAINED].mean()
    alone = Fitted(fit.jacobians(own, few), np.asarray(own.host().precision))
    if every is own:
        return PossibleLayers(spectra, alone, alone)
    # what all share counts once, for all of the regions
    precision = np.asarray(every.host().precision)
    precision = np.where(np.isin(every.index, own.index), precision, precision / len(points))
    return PossibleLayers(spectra, alone, Fitted(fit.jacobians(every, few), precision))


@eqx.filter_jit
def _seen(
    simulator: StructuredSimulator, point: Float[Array, " point"]
) -> tuple[Complex[Array, "rows cols"], Formation]:
    """(the wave behind the region, how its image is formed)."""
    return simulator.wave(point), simulator.typed(point).formation


def _powers(
    layers: DisorderedLayers,
    fit: RegionModel,
    sites: Sites,
    point: Float[np.ndarray, " point"],
    keys: Array,
) -> Float[np.ndarray, "parts rows cols"]:
    """Powers of 1 nm of each layer, and of a white intensity, in cosines of a region's frame."""
    simulator, dtype = fit.simulator, fit.simulator.dtype
    first, last = sites.extent(np.rint(point[simulator.layout.counts]))
    nm = simulator.propagation.slice_nm
    beyond, thickness = (
        jnp.asarray(int(n) * nm, dtype) for n in (sites.stack - last, last - first)
    )
    placed = jnp.asarray(point, dtype)
    wave, formation = _seen(simulator, placed)
    down, along = layers.tiles

    def power(images: Array) -> Float[np.ndarray, "*n rows cols"]:
        """Of patches the size of a region."""
        rows, cols = images.shape[-2] // down, images.shape[-1] // along
        every = np.asarray(images, float)
        patches = every.reshape(*every.shape[:-2], down, rows, along, cols).swapaxes(-3, -2)
        return power_in_cosines(patches).mean(axis=(-4, -3))

    found = []
    for key in keys:
        speckle = layers.images(wave, formation, beyond, thickness, key)
        white = layers.white(formation, key)
        found.append([*power(speckle).sum(axis=1), power(white)])
    return np.mean(found, axis=0)
