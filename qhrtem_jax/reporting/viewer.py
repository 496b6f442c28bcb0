"""What a page lets one look at closely: images of a field, its regions and columns, its atoms.

The page holds all of it (images as PNG in base64, the rest as JSON), so that it can be opened
anywhere and asks nobody for anything.
"""

import base64
import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from qhrtem_jax.physics.columns import Columns
from qhrtem_jax.physics.specimen import Atoms
from qhrtem_jax.reporting.column_tables import Column, Count
from qhrtem_jax.reporting.numbers import with_error
from qhrtem_jax.reporting.result import Fit, Noise, Parameter

SIGMAS = 5.0
"""Where the colours of a difference in units of the noise end."""

MOST_PIXELS = 1536
"""Sides of images in a page; larger ones are binned."""

MOST_AREAS = 400
"""Regions that a page shows; the numbers of all are in its tables."""

MOST_ATOMS = 20_000
"""A model of more atoms is not turned in a page; its files are beside it."""

Pair = tuple[float, float]
Says = tuple[tuple[str, str], ...]
"""What is told of a thing: (what, how much)."""


@dataclasses.dataclass(frozen=True)
class Layer:
    """An image; `signed`: a difference in units of `unit`, drawn in colours around 0; of the others
    those that set it share one grey scale."""

    name: str
    image: Float[np.ndarray, "rows cols"]
    signed: bool = False
    unit: str = "vacuum = 1"
    sets_scale: bool = True


@dataclasses.dataclass(frozen=True)
class Area:
    """A region, by its corners (x, y) in pixels of the image, and what is known of it."""

    name: str
    corners: tuple[Pair, ...]
    says: Says
    thickness_nm: float | None = None
    height: int | None = None


@dataclasses.dataclass(frozen=True)
class Spot:
    """A column, whose place in the crystal is at (x, y) in pixels of the image: its numbers as a
    label, how sure the least sure of them is, its displacement from there (pm), and what is known
    of it; `area`: the index of its region."""

    x: float
    y: float
    label: str
    sure: float
    moved_pm: Pair
    says: Says
    area: int


@dataclasses.dataclass(frozen=True)
class Viewer:
    """Images of one size, and what lies on them; `sampling_nm` (row, col)."""

    layers: tuple[Layer, ...]
    sampling_nm: Pair
    areas: tuple[Area, ...] = ()
    spots: tuple[Spot, ...] = ()

    def content(self) -> str:
        """All of it as JSON that may stand in a page."""
        return _in_page(
            {
                "shape": self.layers[0].image.shape,
                "sampling": self.sampling_nm,
                "layers": _layers(self.layers),
                "areas": [dataclasses.asdict(area) for area in self.areas],
                "spots": [dataclasses.asdict(spot) for spot in self.spots],
            }
        )


@dataclasses.dataclass(frozen=True)
class Model:
    """Atoms that can be turned: a right-angled cell (nm), the beam along z."""

    size_nm: tuple[float, float, float]
    atoms: Atoms

    def content(self) -> str:
        """Elements and places in Angstrom as JSON that may stand in a page."""
        places = 10.0 * self.atoms.positions * np.array(self.size_nm)
        return _in_page(
            {
                "size": [10.0 * n for n in self.size_nm],
                "symbols": self.atoms.symbols,
                "places": np.round(places, 3).tolist(),
            }
        )


def differences(
    experiment: Float[np.ndarray, "rows cols"],
    simulation: Float[np.ndarray, "rows cols"],
    noise: Noise,
) -> tuple[Layer, ...]:
    """Experiment, simulation, difference on the same grey scale, and in units of the noise."""
    difference = simulation - experiment
    layers = (
        Layer("experiment", experiment),
        Layer("simulation", simulation),
        Layer("difference + 1", difference + 1.0, sets_scale=False),
    )
    if not noise.variance > 0.0:
        return layers
    of = "misfit" if noise.source in ("misfit", "residual") else "noise"
    sigmas = difference / np.sqrt(noise.variance)
    return (*layers, Layer("residual", sigmas, True, f"sigma of the {of}"))


def fit_says(fit: Fit) -> Says:
    """A fit in two numbers, or three."""
    found = [("MSE", f"{fit.mse:.6f}"), ("NCC", f"{100 * fit.ncc:.2f} %")]
    if fit.chi2_reduced is not None:
        found.append(("reduced chi-square", f"{fit.chi2_reduced:.2f}"))
    return tuple(found)


def spots_of(
    found: Sequence[Column],
    counts: Sequence[Count],
    place: Float[np.ndarray, "2 3"],
    area: int,
) -> list[Spot]:
    """The columns of a region; `place`: (x, y) in pixels of the image of a point (u, v, 1) of the
    cell, as a matrix."""
    spots = []
    for column in found:
        mine = [c for c in counts if abs(c.x - column.x) < 1e-6 and abs(c.y - column.y) < 1e-6]
        says: list[tuple[str, str]] = []
        for count in mine:
            for n, p in sorted(count.probability.items(), key=lambda one: -one[1])[:3]:
                if p >= 0.0005:
                    says.append((f"{count.species} {n}", f"{100 * p:.1f} %"))
        for axis in ("x", "y"):
            shift, error = getattr(column, f"d{axis}_pm"), getattr(column, f"std_d{axis}_pm")
            says.append((f"shift {axis} (pm)", with_error(shift, error)))
        if not mine:
            for species, known in column.occupancy.items():
                says.append((f"occupancy of {species}", with_error(known.value, known.std)))
        sure = [c.probability.get(str(c.n), 0.0) for c in mine]
        x, y = place @ np.array([column.x, column.y, 1.0])
        if not np.all(np.isfinite([x, y, column.dx_pm, column.dy_pm])):
            continue  # a region whose fit failed
        label = " ".join(f"{c.species}{c.n}" for c in mine)
        moved = float(column.dx_pm), float(column.dy_pm)
        spots.append(Spot(float(x), float(y), label, min(sure, default=1.0), moved, (*says,), area))
    return spots


def cell_at(
    origin: Pair, columns: Columns, sampling_nm: Pair, shift_nm: Pair = (0.0, 0.0)
) -> tuple[Float[np.ndarray, "2 3"], tuple[Pair, ...]]:
    """(`place` as `spots_of` takes it, corners) of a cell whose first pixel is `origin`, (row,
    col), and whose image is shifted by `shift_nm` (x, y)."""
    wide, high = columns.size_nm[0] / sampling_nm[1], columns.size_nm[1] / sampling_nm[0]
    corner = np.array([[wide, 0.0, origin[1]], [0.0, high, origin[0]]])
    ends = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
    corners = tuple((float(x), float(y)) for x, y in (corner @ (u, v, 1.0) for u, v in ends))
    shift = np.array(shift_nm) / np.array(sampling_nm[::-1])
    return corner + np.outer(shift, (0.0, 0.0, 1.0)), corners


def image_shift(parameters: Mapping[str, Parameter]) -> Pair:
    """(x, y) in nm by which an image lies off its pixels."""
    found = [parameters[name].value if name in parameters else 0.0 for name in ("A0_x", "A0_y")]
    return found[0], found[1]


def _layers(layers: Sequence[Layer]) -> list[dict[str, Any]]:
    grey = [layer.image for layer in layers if layer.sets_scale and not layer.signed]
    grey = [image[np.isfinite(image)] for image in grey]
    grey = [image for image in grey if image.size] or [np.array([0.0, 1.0])]
    low, high = (float(f([f(image) for image in grey])) for f in (np.min, np.max))
    return [_layer(layer, low, high) for layer in layers]


def _layer(layer: Layer, low: float, high: float) -> dict[str, Any]:
    import matplotlib

    if layer.signed:
        low, high = -SIGMAS, SIGMAS
    image = np.nan_to_num(_binned(layer.image), nan=0.5 * (low + high), posinf=high, neginf=low)
    scaled = np.clip((image - low) / ((high - low) or 1.0), 0.0, 1.0)
    pixels = np.rint(255.0 * scaled).astype(np.uint8)
    if layer.signed:
        colours = matplotlib.colormaps["RdBu_r"](np.linspace(0.0, 1.0, 256))[:, :3]
        pixels = np.rint(255.0 * colours).astype(np.uint8)[pixels]
    known = {"name": layer.name, "low": low, "high": high, "unit": layer.unit}
    return known | {"signed": layer.signed, "png": png_address(pixels)}


def _binned(image: np.ndarray) -> np.ndarray:
    """Means of so many pixels that the rest is no larger than a page holds."""
    by = -(-max(image.shape) // MOST_PIXELS)
    if by == 1:
        return image
    rows, cols = (n // by * by for n in image.shape)
    return image[:rows, :cols].reshape(rows // by, by, cols // by, by).mean(axis=(1, 3))


def png_address(pixels: UInt8[np.ndarray, "rows cols *colours"]) -> str:
    """8-bit pixels, grey or in colours, as an address that holds them."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="png", optimize=True)
    return address(file.getvalue())


def address(png: bytes) -> str:
    """A PNG as an address that holds it."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _in_page(content: Mapping[str, Any]) -> str:
    """JSON in which no markup begins."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text
