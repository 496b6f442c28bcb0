"""Frozen phonons against abTEM, and against the absorption that stands for them.

    python -m benchmarks.phonons [--configurations 32] [--result JSON]

SrTiO3 and diamond along [001], 300 kV, 5 to 60 nm, Lobato and Van Dyck's factors, displacements
across the beam. abTEM (its FrozenPhonons, its factors summed with exact phases, its multislice) has
lattices of its own: both sides carry the error of so few lattices. Prints, for each crystal and
thickness, the elastic beams above 0.001 (largest difference and the median, with what is expected
of chance in the median), and the diffuse intensity in rings of 3/nm between the beams (largest
difference); of abTEM's first two lattices, the rms of the wave's difference against what is
scattered. Then, on a finer grid, what absorption takes from the wave against what frozen lattices
take from the elastic beams; of single atoms, before all, the same without chance.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import abtem
import ase
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.references.abtem_exit_wave import (
    DETERMINISTIC,
    HARD_APERTURE,
    Atom,
    Cell,
    abtem_exit_waves,
)
from benchmarks.versions import versions
from qhrtem_jax.physics.camera import Frame
from qhrtem_jax.physics.constants import electron_wavelength_nm, relativistic_gamma
from qhrtem_jax.physics.frozen import FrozenSimulator, make_frozen
from qhrtem_jax.physics.microscope import Microscope
from qhrtem_jax.physics.parameters import INDEX, default_vector
from qhrtem_jax.physics.scattering import absorptive_factor, scattering_factor
from qhrtem_jax.physics.simulator import make_simulator
from qhrtem_jax.physics.specimen import Atoms, Crystal

THICKNESSES_NM = (5.0, 20.0, 40.0, 60.0)
TILES = (6, 6)
FRAME = Frame((2, 2), (0.1, 0.1))
BEAM = 1e-3
RING_PER_NM = 3.0


def cubic(
    a_nm: float, slices: int, sites: list[tuple[str, float, float, float]], b: dict[str, float]
) -> Crystal:
    """A cubic crystal along [001], its atoms in the middle of their slices."""
    symbols = tuple(site[0] for site in sites)
    places = np.array([site[1:] for site in sites]) + np.array([0.0, 0.0, 0.5 / slices])
    atoms = Atoms(symbols, places, np.ones(len(sites)), np.array([b[s] for s in symbols]))
    return Crystal((a_nm, a_nm, a_nm), atoms, slices)


SRTIO3 = cubic(
    0.3905,
    2,
    [
        ("Sr", 0.0, 0.0, 0.0),
        ("O", 0.5, 0.5, 0.0),
        ("Ti", 0.5, 0.5, 0.5),
        ("O", 0.5, 0.0, 0.5),
        ("O", 0.0, 0.5, 0.5),
    ],
    {"Sr": 0.0062, "Ti": 0.0044, "O": 0.0072},
)
_FACES = [(0.0, 0.0, 0.0), (0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0)]
DIAMOND = cubic(
    0.3567,
    4,
    [("C", x + d, y + d, z + d) for d in (0.0, 0.25) for x, y, z in _FACES],
    {"C": 0.0014},
)
CRYSTALS = {"SrTiO3": (SRTIO3, (36, 36)), "diamond": (DIAMOND, (32, 32))}


def _vector(slices: int) -> jax.Array:
    vector = default_vector()
    vector[INDEX["thickness"]], vector[INDEX["absorption"]] = slices, 0.0
    return jnp.asarray(vector)


def frozen(
    crystal: Crystal,
    grid: tuple[int, int],
    slices: int,
    many: int,
    snapshots: list[Crystal] | None = None,
    tiles: tuple[int, int] = TILES,
) -> FrozenSimulator:
    return make_frozen(
        crystal,
        Microscope(),
        FRAME,
        grid_shape=grid,
        image_shape=grid,
        slices=slices,
        configurations=many,
        seed=1,
        tiles=tiles,
        snapshots=snapshots,
        scattering="lobato",
        precision="float64",
    )


def theirs(
    crystal: Crystal, grid: tuple[int, int], numbers: list[int], many: int
) -> tuple[np.ndarray, list[Crystal], np.ndarray]:
    """abTEM's (mean wave, mean square) by thickness, as coefficients in FFT order; its first two
    lattices, and the mean of their waves."""
    down, along = TILES
    deep = -(-max(numbers) // crystal.slices)
    a, b, c = (10.0 * n for n in crystal.size_nm)
    unit = ase.Atoms(
        crystal.atoms.symbols, scaled_positions=crystal.atoms.positions, cell=(a, b, c)
    )
    whole = unit.repeat((along, down, deep))
    where = np.floor(whole.get_scaled_positions()[:, 2] * deep * crystal.slices + 1e-6).astype(int)
    pairs = zip(crystal.atoms.symbols, crystal.atoms.b_nm2, strict=True)
    sigmas = {s: float(10.0 * np.sqrt(b_nm2 / (8.0 * np.pi**2))) for s, b_nm2 in pairs}
    lattices = abtem.FrozenPhonons(whole, many, sigmas=sigmas, directions="xy", seed=5)
    size = (along * crystal.size_nm[0], down * crystal.size_nm[1], deep * crystal.size_nm[2])
    sums: Any = 0.0
    first, waves_of_first = [], []
    for number, moved in enumerate(lattices):
        xy = moved.get_positions()[:, :2] / (10.0 * np.array(size[:2]))
        atoms = tuple(
            Atom(int(z), float(x), float(y), int(k))
            for z, (x, y), k in zip(moved.numbers, xy, where, strict=True)
        )
        cell = Cell(size, deep * crystal.slices, atoms)
        waves = abtem_exit_waves(cell, (along * grid[1], down * grid[0]), numbers)
        wave = np.fft.fft2(waves, norm="forward")
        sums = sums + np.stack([wave, np.abs(wave) ** 2])
        if number < 2:
            height = (where + 0.5) / (deep * crystal.slices)
            places = np.concatenate([xy, height[:, None]], axis=1)
            count = len(places)
            still = Atoms(tuple(moved.symbols), places, np.ones(count), np.zeros(count))
            first.append(Crystal(size, still, deep * crystal.slices))
            waves_of_first.append(wave)
        print(f"  abTEM {number + 1} of {many}", flush=True)
    return sums / many, first, np.mean(waves_of_first, axis=0)


def patterns(mean: np.ndarray, square: np.ndarray, many: int) -> tuple[np.ndarray, np.ndarray]:
    """(beams of a cell without their diffuse part, diffuse intensity between the beams or NaN)."""
    down, along = TILES
    beams = ((many * np.abs(mean) ** 2 - square) / (many - 1))[::down, ::along]
    diffuse = square.copy()
    diffuse[::down, ::along] = np.nan
    return beams, diffuse


def rings(crystal: Crystal, grid: tuple[int, int], diffuse: np.ndarray) -> np.ndarray:
    """Mean over rings within the band, of pixels that are no beams."""
    height, width = TILES[0] * crystal.size_nm[1], TILES[1] * crystal.size_nm[0]
    rows, cols = diffuse.shape
    q = np.hypot(np.fft.fftfreq(rows, height / rows)[:, None], np.fft.fftfreq(cols, width / cols))
    limit = 0.95 * 2.0 / 3.0 * min(grid) / (2.0 * max(crystal.size_nm[:2]))
    number = (q / RING_PER_NM).astype(int)
    return np.array([np.nanmean(diffuse[number == k]) for k in range(int(limit / RING_PER_NM))])


def compared(name: str, many: int) -> list[dict[str, Any]]:
    crystal, grid = CRYSTALS[name]
    numbers = [round(t / crystal.slice_thickness_nm) for t in THICKNESSES_NM]
    other, first, wave_of_first = theirs(crystal, grid, numbers, many)
    simulator = frozen(crystal, grid, max(numbers), many)
    same = frozen(crystal, grid, max(numbers), 2, first)
    mean_wave = eqx.filter_jit(lambda s, v: s.mean_wave(v))
    rows = []
    for k, number in enumerate(numbers):
        mean, square = (np.asarray(n) for n in mean_wave(simulator, _vector(number)))
        alike = np.asarray(mean_wave(same, _vector(number))[0]) - wave_of_first[k]
        scattered = wave_of_first[k].copy()
        scattered[0, 0] = 0.0
        own_beams, own_diffuse = patterns(mean, square, many)
        beams, diffuse = patterns(other[0, k], other[1, k].real, many)
        strong = beams > BEAM
        off = np.abs(own_beams / beams - 1.0)[strong]
        # the mean of n waves with a diffuse part d: 2 sqrt(d / (2 n I)) on each side
        d = np.nanmean(diffuse)
        chance = np.median(np.sqrt(2.0) * 2.0 * np.sqrt(d / (2.0 * many * beams[strong])))
        of_rings = rings(crystal, grid, own_diffuse) / rings(crystal, grid, diffuse) - 1.0
        row = {
            "thickness_nm": number * crystal.slice_thickness_nm,
            "beams": int(strong.sum()),
            "largest": float(off.max()),
            "median": float(np.median(off)),
            "by_chance": float(chance),
            "same_lattices": float(np.linalg.norm(alike) / np.linalg.norm(scattered)),
            "rings": [round(float(r), 4) for r in of_rings],
            "elastic": float(own_beams.sum()),
            "elastic_abtem": float(beams.sum()),
        }
        print(
            f"{name} {row['thickness_nm']:.1f} nm: {row['beams']} beams, median "
            f"{100 * row['median']:.2f} % (by chance about {100 * chance:.2f} %), largest "
            f"{100 * row['largest']:.2f} %; rings {100 * np.abs(of_rings).max():.2f} %; elastic "
            f"{row['elastic']:.4f}, abTEM {row['elastic_abtem']:.4f}; the same lattices "
            f"{row['same_lattices']:.1e}",
            flush=True,
        )
        rows.append(row)
    return rows


def balance(name: str, many: int) -> list[dict[str, float]]:
    """What leaves the elastic beams, on a fine grid; a few cells are enough for that."""
    crystal, _ = CRYSTALS[name]
    fine = (80, 80)
    rows = []
    for nm in THICKNESSES_NM[:3]:
        slices = round(nm / crystal.slice_thickness_nm)
        patterns = eqx.filter_jit(lambda s, v: s.wave_and_patterns(v)[1])
        moving = frozen(crystal, fine, slices, many, tiles=(2, 2))
        elastic = float(patterns(moving, _vector(slices))[1].sum())
        left = {}
        for thermal in (False, True):
            plain = make_simulator(
                crystal,
                Microscope(),
                FRAME,
                grid_shape=fine,
                slices=slices,
                scattering="lobato",
                precision="float64",
                thermal_absorption=thermal,
            )
            left[thermal] = float(patterns(plain, _vector(slices)).sum())
        row = {
            "thickness_nm": nm,
            "frozen": left[False] - elastic,
            "absorptive": left[False] - left[True],
        }
        print(
            f"{name} {nm:.0f} nm: frozen {100 * row['frozen']:.3f} %, absorptive "
            f"{100 * row['absorptive']:.3f} %, ratio {row['absorptive'] / row['frozen']:.3f}",
            flush=True,
        )
        rows.append(row)
    return rows


def single(symbol: str, b_nm2: float, points: int) -> tuple[float, float, float]:
    """(Nyquist frequency in 1/nm, what absorption takes over what displacements take from the
    elastic wave, and the latter over its value without the grid's band) of one atom: the mean of
    exp(i phi) over its places is a blur, without any lattice being drawn."""
    size = 1.2
    q = np.hypot(*np.meshgrid(*2 * [np.fft.fftfreq(points, size / points)], indexing="ij"))
    nyquist, scale = points / (2.0 * size), (points / size) ** 2
    strength = relativistic_gamma(300.0) * electron_wavelength_nm(300.0)
    factor = strength * scattering_factor("lobato", symbol, q)
    lost = strength**2 * absorptive_factor("lobato", symbol, q, b_nm2)
    blur, band = np.exp(-b_nm2 * q**2 / 4.0), q <= 2.0 / 3.0 * nyquist
    at_rest, mean, chi = (np.fft.ifft2(f).real * scale for f in (factor, factor * blur, lost))

    def gone(wave: np.ndarray, blurred: np.ndarray | float = 1.0) -> float:
        kept = np.fft.ifft2(np.fft.fft2(wave) * blurred * band)
        return 1.0 - float(np.mean(np.abs(kept) ** 2))

    still = gone(np.exp(1j * mean))
    displaced = gone(np.exp(1j * at_rest), blur) - still
    return nyquist, (gone(np.exp(1j * mean - chi)) - still) / displaced, displaced


def single_atoms() -> dict[str, Any]:
    """On a grid without a limit that matters, and what coarser ones leave of the loss."""
    found = {}
    for symbol, b_nm2 in (("C", 14), ("O", 72), ("Ti", 44), ("Sr", 62), ("Ba", 43)):
        rows = [single(symbol, 1e-4 * b_nm2, points) for points in (64, 128, 256, 1024)]
        found[symbol] = {
            "absorptive_over_frozen": rows[-1][1],
            "left_by_nyquist": {f"{q:.0f}": lost / rows[-1][2] for q, _, lost in rows},
        }
        print(symbol, json.dumps(found[symbol]), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configurations", type=int, default=32)
    parser.add_argument("--crystals", nargs="*", default=list(CRYSTALS))
    parser.add_argument("--result", type=Path, help="JSON to write")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    found: dict[str, Any] = {"single_atoms": single_atoms()}
    with abtem.config.set({**DETERMINISTIC, **HARD_APERTURE}):
        for name in options.crystals:
            energy = balance(name, options.configurations)
            found[name] = {
                "against_abtem": compared(name, options.configurations),
                "energy": energy,
            }
    if options.result is not None:
        content = {"versions": versions(), "date": time.strftime("%Y-%m-%d"), "phonons": found}
        options.result.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
