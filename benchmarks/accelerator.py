"""Images per second over the size of the wave, on whatever device JAX has: one GPU, or the CPU.

    python -m benchmarks.accelerator --out RESULT.json [--edges 128 512 2048] [--repeats 5]

A cell of SrTiO3 [110] is repeated sideways until its wave of 20 slices has so many points along
either edge, about 4.4 pm apart; single precision, all of image formation (foci as stated in the
result, spatial coherence, camera). Beside it, in turn, so that drifts of the machine cancel: the
forward and backward FFT of each slice alone (JAX's: cuFFT on an NVIDIA GPU), and one coherent image
by abTEM (extra `dev`; on the GPU where CuPy is installed) from a prebuilt potential. `host_ms`: how
long the call itself takes before the device has done anything, which a host that waits makes as
long as the work.
"""

import argparse
import dataclasses
import importlib.util
import json
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.simulator import paired
from benchmarks.versions import versions
from qhrtem_jax.io.mtf import read_mtf
from qhrtem_jax.io.structures import read_structure
from qhrtem_jax.physics.camera import Frame
from qhrtem_jax.physics.coherence import SourceSampling
from qhrtem_jax.physics.microscope import Microscope
from qhrtem_jax.physics.parameters import INDEX, default_vector
from qhrtem_jax.physics.simulator import make_simulator
from qhrtem_jax.physics.specimen import Atoms, Crystal, slice_phases

SLICES = 20
POINTS_OF_CELL = (90, 128)
SOURCE = SourceSampling()
IMAGES = {128: 64, 512: 16, 2048: 2}
"""Images of a batch; other edges: by their points, as these."""


def repeated(cell: Crystal, rows: int, cols: int) -> Crystal:
    """So many cells along y and x as one."""
    steps = np.array([(j, i, 0) for i in range(rows) for j in range(cols)])
    places = (cell.atoms.positions[None] + steps[:, None]).reshape(-1, 3) / (cols, rows, 1)
    count = len(steps)
    atoms = Atoms(
        cell.atoms.symbols * count,
        places,
        np.tile(cell.atoms.occupancy, count),
        np.tile(cell.atoms.b_nm2, count),
    )
    a, b, c = cell.size_nm
    return dataclasses.replace(cell, size_nm=(cols * a, rows * b, c), atoms=atoms)


def ffts(edge: int, batch: int) -> Callable[[], object]:
    """A forward and a backward FFT of each image's wave in each slice."""
    waves = jnp.ones((batch, edge, edge), jnp.complex64)

    @jax.jit
    def pairs(w: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, SLICES, lambda _, a: jnp.fft.ifft2(jnp.fft.fft2(a)), w)

    return lambda: pairs(waves).block_until_ready()


def abtem_image(crystal: Crystal, edge: int) -> Callable[[], object] | None:
    """One coherent image from a prebuilt potential; None where abTEM is absent."""
    try:
        import abtem
    except ImportError:
        return None
    on_gpu = jax.default_backend() == "gpu" and importlib.util.find_spec("cupy") is not None
    device = "gpu" if on_gpu else "cpu"
    abtem.config.set({"device": device, "precision": "float32", "diagnostics.progress_bar": False})
    model = Microscope().potential_model("lobato")
    # its time does not depend on what the values stand for
    phases = np.asarray(slice_phases(crystal, model, crystal.grid((edge, edge))))
    potential = abtem.potentials.iam.PotentialArray(
        np.swapaxes(phases, 1, 2)[np.arange(SLICES) % crystal.slices].astype(np.float32),
        slice_thickness=10.0 * crystal.slice_thickness_nm,
        extent=(10.0 * crystal.size_nm[0], 10.0 * crystal.size_nm[1]),
    )
    if on_gpu:
        potential = potential.copy_to_device("gpu")
    transfer = abtem.CTF(energy=300e3, Cs=-5e4, defocus=-50.0, focal_spread=40.0)

    def run() -> None:
        wave = abtem.PlaneWave(energy=300e3, device=device).multislice(potential, lazy=False)
        np.asarray(wave.apply_ctf(transfer).intensity().to_cpu().array)

    return run


def measure(cell: Crystal, microscope: Microscope, edge: int, repeats: int) -> dict:
    """All of one edge."""
    rows, cols = (max(1, round(edge / n)) for n in POINTS_OF_CELL)
    crystal = repeated(cell, rows, cols)
    pixels = edge // 2
    frame = Frame((pixels, pixels), (crystal.size_nm[1] / pixels, crystal.size_nm[0] / pixels))
    batch = IMAGES.get(edge, max(1, 64 * 128**2 // edge**2))
    simulator = make_simulator(
        crystal,
        microscope,
        frame,
        grid_shape=(edge, edge),
        slices=SLICES,
        source=SOURCE,
        batch=batch if jax.default_backend() == "gpu" else 1,
    )
    vectors = np.tile(default_vector(), (batch, 1))
    vectors[:, INDEX["thickness"]] = SLICES
    vectors[:, INDEX["C1"]] += np.linspace(-1.0, 1.0, batch)
    points = jnp.asarray(vectors, jnp.float32)
    start = time.perf_counter()
    simulator.images(points).block_until_ready()
    first_call = time.perf_counter() - start
    start = time.perf_counter()
    waiting = simulator.images(points)
    host = time.perf_counter() - start
    waiting.block_until_ready()
    found = paired(lambda: simulator.images(points).block_until_ready(), ffts(edge, batch), repeats)
    row = {
        "edge": edge,
        "cells": [rows, cols],
        "foci": SOURCE.foci,
        "batch": batch,
        "images_per_s": batch / found["seconds"],
        "ffts_images_per_s": batch / found["peer_seconds"],
        "ratio_to_ffts": found["ratio"],
        "host_ms": 1e3 * host,
        "first_call_s": first_call,
    }
    peer = abtem_image(crystal, edge)
    if peer is not None:
        one = points[:1]
        beside = paired(lambda: simulator.images(one).block_until_ready(), peer, repeats)
        row |= {"one_image_s": beside["seconds"], "abtem_one_image_s": beside["peer_seconds"]}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--edges", type=int, nargs="+", default=list(IMAGES))
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    example = Path(__file__).parents[1] / "qhrtem_jax" / "example"
    cell = read_structure(example / "SrTiO3_110.cel", 4)
    microscope = Microscope(mtf=read_mtf(example / "example.mtf", 1.0))
    rows = []
    for edge in options.edges:
        rows.append(measure(cell, microscope, edge, options.repeats))
        print(json.dumps(rows[-1]), flush=True)
    device = jax.devices()[0]
    content = {
        "versions": versions(),
        "date": time.strftime("%Y-%m-%d"),
        "device": f"{device.platform}: {device.device_kind}",
        "rows": rows,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
