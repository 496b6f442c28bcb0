"""The spectrum of what a model misses, against the parts of the noise."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from qhrtem_jax.matching.noise import NoiseModel
from qhrtem_jax.matching.speckle import cosine_frequencies, power_in_cosines
from qhrtem_jax.reporting.figures import save
from qhrtem_jax.reporting.page import Drawing, Table
from qhrtem_jax.reporting.result import Band, Noise

EDGES = (0.0, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 20.0, np.inf)
"""Of the bands, 1/nm."""


def bands(
    noise: NoiseModel,
    missed: Float[np.ndarray, "regions rows cols"],
    sampling_nm: tuple[float, float],
) -> tuple[Band, ...] | None:
    """Mean powers by band, over all regions; None where the noise has no speckle."""
    if noise.speckle is None:
        return None
    f_y, f_x = (cosine_frequencies(count) for count in missed.shape[1:])
    q, camera = per_nm(f_y, f_x, sampling_nm), noise.of_camera(f_y, f_x)
    parts = (power_in_cosines(missed).mean(axis=0), camera, *noise.speckle.parts(f_y, f_x))
    found = []
    for low, high in itertools.pairwise(EDGES):
        inside = (q >= low) & (q < high)
        if not inside.any():
            continue
        residual, own, below, above, rest = (float(part[inside].mean()) for part in parts)
        chi2, end = residual / (own + below + above), min(high, float(q.max()))
        found.append(Band(low, end, residual, own, below, above, rest, chi2))
    return tuple(found)


def per_nm(
    f_y: Float[np.ndarray, " rows"],
    f_x: Float[np.ndarray, " cols"],
    sampling_nm: tuple[float, float],
) -> Float[np.ndarray, "rows cols"]:
    """Spatial frequency in 1/nm at `f_y` and `f_x` cycles a pixel."""
    return np.hypot(f_y[:, None] / sampling_nm[0], f_x / sampling_nm[1])


def spectrum(path: Path, bands: Sequence[Band]) -> None:
    """Residual and parts of the noise over frequency."""
    figure = Figure(figsize=(6.0, 3.6), layout="constrained")
    axis = figure.subplots()
    edges = [*(band.from_per_nm for band in bands), bands[-1].to_per_nm]
    explained = [b.camera + b.exit_layer + b.entrance_layer for b in bands]
    lines = (
        ("residual", [b.residual for b in bands], "k", "-"),
        ("camera, layers and the unexplained", _all(bands), "C3", "-"),
        ("camera and layers", explained, "C0", "-"),
        ("camera", [b.camera for b in bands], "C0", ":"),
        ("exit layer", [b.exit_layer for b in bands], "C1", "--"),
        ("entrance layer", [b.entrance_layer for b in bands], "C2", "--"),
    )
    for label, values, color, style in lines:
        if max(values) > 0.0:
            axis.stairs(values, edges, baseline=None, label=label, color=color, ls=style, lw=1.5)
    axis.set_yscale("log")
    axis.set_ylim(bottom=0.2 * min(b.camera for b in bands))
    axis.set_xlabel("frequency (1/nm)")
    axis.set_ylabel("power (variance of white noise)")
    axis.legend(fontsize=8)
    save(figure, path)


def spectrum_page(noise: Noise) -> tuple[tuple[Drawing, ...], tuple[Table, ...]]:
    """What a page shows of a noise's speckle."""
    if noise.bands is None:
        return (), ()
    bands = noise.bands
    caption = "Spectrum of the residual, and what the noise explains of it"
    return (
        (Drawing("spectrum", caption, lambda path: spectrum(path, bands)),),
        (spectrum_table(bands),),
    )


def spectrum_table(bands: Sequence[Band]) -> Table:
    """The numbers of `spectrum`."""
    head = ["1/nm", "residual", "camera", "exit layer", "entrance layer", "unexplained", "chi2"]
    rows = [
        [
            f"{b.from_per_nm:.0f} to {b.to_per_nm:.0f}",
            *(
                f"{power:.2e}"
                for power in (b.residual, b.camera, b.exit_layer, b.entrance_layer, b.unexplained)
            ),
            f"{b.chi2_reduced:.2f}",
        ]
        for b in bands
    ]
    return Table("Power of the residual, by frequency", head, rows)


def _all(bands: Sequence[Band]) -> list[float]:
    return [b.camera + b.exit_layer + b.entrance_layer + b.unexplained for b in bands]
