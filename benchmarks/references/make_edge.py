"""Make the embedded image of a knife edge, of a camera with a known MTF.

    python -m benchmarks.references.make_edge --out qhrtem_jax/example

The camera spreads light as two Gaussians do, whose edge spread is a sum of error functions; its pixels
integrate over their squares, here by Gauss-Legendre quadrature. No Fourier transform and no binning is
involved, so that finding the MTF from this image tests more than self-consistency.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

FloatArray = NDArray[np.float64]

SPREADS = ((0.7, 0.45), (0.3, 2.2))
"""(share, standard deviation in pixels) of the camera's spread: a core and a halo."""

SHAPE = (192, 224)
ANGLE_DEG = 4.0
DARK, BRIGHT = 100.0, 2100.0


def mtf(frequency: FloatArray) -> FloatArray:
    """The camera's MTF at frequencies in 1/pixel, without the square of the pixels."""
    terms = [share * np.exp(-2.0 * (np.pi * sigma * frequency) ** 2) for share, sigma in SPREADS]
    return np.sum(terms, axis=0)


def edge_image(
    shape: tuple[int, int] = SHAPE,
    angle_deg: float = ANGLE_DEG,
    dark: float = DARK,
    bright: float = BRIGHT,
    order: int = 8,
) -> FloatArray:
    """Counts without noise; the bright side lies at larger x, the edge is turned by `angle_deg` from the
    columns towards larger x at larger y."""
    angle = np.radians(angle_deg)
    nodes, weights = (0.5 * a for a in np.polynomial.legendre.leggauss(order))
    y = np.arange(shape[0])[:, None] - 0.5 * (shape[0] - 1)
    x = np.arange(shape[1]) - 0.5 * (shape[1] - 1) - 0.3
    found = np.zeros(shape)
    for dy, wy in zip(nodes, weights, strict=True):
        for dx, wx in zip(nodes, weights, strict=True):
            distance = (x + dx) * np.cos(angle) - (y + dy) * np.sin(angle)
            light = sum(
                0.5 * share * (1.0 + erf(distance / (sigma * 2**0.5))) for share, sigma in SPREADS
            )
            found += wy * wx * light
    return dark + (bright - dark) * found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    folder = parser.parse_args().out
    counts = np.random.default_rng(0).poisson(edge_image()).astype(np.uint16)
    np.savez_compressed(folder / "edge.npz", image=counts)


if __name__ == "__main__":
    main()
