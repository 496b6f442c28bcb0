"""Images per second of the simulator beside bare FFTs and abTEM, in one run.

    python -m benchmarks.simulator --out benchmarks/results/simulator.json [--bto DIR]

One image: 20 slices of a perovskite cell along [110], all of image formation (15 foci, spatial
coherence, camera). Beside it, alternating so that drifts of the machine cancel: 40 FFTs of the
128 x 90 wave with SciPy (what 20 slices cost at least), and one abTEM image (extra `dev`; 20 slices
with a prebuilt potential, one focus). Accuracy is recorded beside time. On a GPU the FFTs are JAX's
own (cuFFT), over the batch.
"""

import argparse
import functools
import json
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft

from benchmarks.versions import versions
from qhrtem_jax.inputs.instrument import spanning_vectors
from qhrtem_jax.inputs.parameter_space import parameter_space
from qhrtem_jax.io.mtf import read_mtf
from qhrtem_jax.io.structures import read_structure
from qhrtem_jax.physics.autogrid import choose_grids
from qhrtem_jax.physics.camera import Frame
from qhrtem_jax.physics.microscope import Microscope
from qhrtem_jax.physics.parameters import INDEX, default_vector
from qhrtem_jax.physics.simulator import make_simulator
from qhrtem_jax.stages import run_settings

GRID = (90, 128)
SLICES = 20
FRAME = Frame((45, 64), (0.00887, 0.00887))


def paired(first: Callable[[], object], second: Callable[[], object], repeats: int) -> dict:
    """Seconds of two functions called in turn, after a warm-up: medians and the median ratio."""
    first(), second()
    times = np.empty((repeats, 2))
    for k in range(repeats):
        for column, function in enumerate((first, second)):
            start = time.perf_counter()
            function()
            times[k, column] = time.perf_counter() - start
    medians = np.median(times, axis=0)
    ratio = float(np.median(times[:, 0] / times[:, 1]))
    return {"seconds": float(medians[0]), "peer_seconds": float(medians[1]), "ratio": ratio}


def bare_ffts(batch: int) -> Callable[[], None]:
    """40 FFTs of the wave for each image of the batch: SciPy on a CPU, JAX on a GPU."""
    rng = np.random.default_rng(0)
    if jax.default_backend() == "cpu":
        wave = (rng.normal(size=GRID) + 1j * rng.normal(size=GRID)).astype(np.complex64)

        def run() -> None:
            for _ in range(40 * batch):
                scipy.fft.fft2(wave)

        return run
    waves = jnp.asarray(rng.normal(size=(batch, *GRID)) + 0j, jnp.complex64)
    pairs = jax.jit(
        lambda w: jax.lax.fori_loop(0, 20, lambda _, a: jnp.fft.ifft2(jnp.fft.fft2(a)), w)
    )
    return lambda: pairs(waves).block_until_ready()


def vectors(count: int, seed: int) -> np.ndarray:
    """Parameter vectors within the default bounds, all of the benchmark's thickness."""
    space = parameter_space(run_settings({"stage": "imaging"}))
    found = spanning_vectors(space, seed, count)
    found[:, INDEX["thickness"]] = SLICES
    return found


def measure(crystal, microscope: Microscope, batch: int, chunk: int, repeats: int) -> list[dict]:
    """Both grids at one batch size."""
    choose = functools.partial(
        choose_grids,
        crystal,
        microscope,
        FRAME,
        vectors=vectors(6, 0),
        slices=SLICES,
        scattering="weickenmeier_kohl",
        error=1e-4,
    )
    choice, image_only = choose(), choose(grid=GRID)
    exact = make_simulator(crystal, microscope, FRAME, grid_shape=GRID, slices=SLICES)
    points = jnp.asarray(vectors(batch, 1), jnp.float32)
    sample = points[: min(batch, 16)]
    reference = np.asarray(exact.images(sample))
    rows = []
    for label, shape, image in (
        ("90x128", GRID, image_only.image),
        ("auto, 1e-4", choice.grid, choice.image),
    ):
        simulator = make_simulator(
            crystal,
            microscope,
            FRAME,
            grid_shape=shape,
            image_shape=image,
            slices=SLICES,
            batch=chunk,
        )
        error = np.sqrt(np.mean((np.asarray(simulator.images(sample)) - reference) ** 2, (1, 2)))
        start = time.perf_counter()
        simulator.images(points).block_until_ready()
        first_call = time.perf_counter() - start
        timing = paired(
            lambda s=simulator: s.images(points).block_until_ready(), bare_ffts(batch), repeats
        )
        rows.append(
            {
                "grid": label,
                "wave": list(shape),
                "image": list(image),
                "batch": batch,
                "chunk": chunk,
                "ms_per_image": 1e3 * timing["seconds"] / batch,
                "ffts_ms_per_image": 1e3 * timing["peer_seconds"] / batch,
                "ratio_to_ffts": timing["ratio"],
                "images_per_s": batch / timing["seconds"],
                "error_rms_max": float(error.max()),
                "first_call_s": first_call,
            }
        )
    return rows


def abtem_image(crystal) -> Callable[[], None] | None:
    """One coherent abTEM image from a prebuilt potential, or None where abTEM is absent."""
    try:
        import abtem

        from benchmarks.references.abtem_exit_wave import Atom, Cell, abtem_projected_potential
        from qhrtem_jax.physics.scattering import atomic_number
    except ImportError:
        return None
    atoms = crystal.atoms
    cell = Cell(
        crystal.size_nm,
        crystal.slices,
        tuple(
            Atom(atomic_number(s), x, y, int(k), 0.0)
            for s, (x, y, _), k in zip(
                atoms.symbols, atoms.positions, crystal.slice_of_atoms(), strict=True
            )
        ),
    )
    abtem.config.set({"precision": "float32", "diagnostics.progress_bar": False})
    projected = abtem_projected_potential(cell, GRID[::-1], "lobato", "exact")
    potential = abtem.potentials.iam.PotentialArray(
        projected[np.arange(SLICES) % crystal.slices].astype(np.float32),
        slice_thickness=10.0 * crystal.slice_thickness_nm,
        extent=(10.0 * crystal.size_nm[0], 10.0 * crystal.size_nm[1]),
    )
    transfer = abtem.CTF(energy=300e3, Cs=-5e4, defocus=-50.0, focal_spread=40.0)

    def run() -> None:
        wave = abtem.PlaneWave(energy=300e3).multislice(potential, lazy=False)
        wave.apply_ctf(transfer).intensity()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--bto", type=Path, help="folder of the BaTiO3 data (default: example)")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--chunk", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    example = Path(__file__).parents[1] / "qhrtem_jax" / "example"
    cel = options.bto / "BTO110.cel" if options.bto else example / "SrTiO3_110.cel"
    mtf = options.bto / "MTF-US2k-300.mtf" if options.bto else example / "example.mtf"
    crystal = read_structure(cel, 4)
    microscope = Microscope(mtf=read_mtf(mtf, 1.068 if options.bto else 1.0))
    rows = []
    for batch in options.batches:
        for chunk in [c for c in options.chunk if c <= batch]:
            rows += measure(crystal, microscope, batch, chunk, options.repeats)
    content: dict = {"versions": versions(), "date": time.strftime("%Y-%m-%d"), "rows": rows}
    peer = abtem_image(crystal)
    if peer is not None:
        simulator = make_simulator(
            crystal, microscope, FRAME, grid_shape=GRID, slices=SLICES, batch=1
        )
        point = jnp.asarray(default_vector()[None], jnp.float32)
        content["abtem_one_image"] = paired(
            lambda: simulator.images(point).block_until_ready(), peer, options.repeats
        )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    for row in rows:
        print(
            f"{row['grid']:11} batch {row['batch']:5d} chunk {row['chunk']:3d}: "
            f"{row['ms_per_image']:7.3f} ms an image, 40 FFTs {row['ffts_ms_per_image']:7.3f} ms, "
            f"ratio {row['ratio_to_ffts']:.2f}, error {row['error_rms_max']:.1e}"
        )
    if peer is not None:
        found = content["abtem_one_image"]
        print(
            f"one image, 90x128: ours {1e3 * found['seconds']:.1f} ms with 15 foci, "
            f"abTEM {1e3 * found['peer_seconds']:.1f} ms with one, ratio {found['ratio']:.2f}"
        )


if __name__ == "__main__":
    main()
