"""The parts of `result.json` that every stage shares."""

import platform
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import qhrtem_jax
from qhrtem_jax.inputs.problem import describe_input
from qhrtem_jax.inputs.settings import RunSettings
from qhrtem_jax.io.run_folder import SCHEMA
from qhrtem_jax.matching import criteria
from qhrtem_jax.matching.noise import NoiseModel
from qhrtem_jax.physics.parameters import INDEX, NAMES, UNITS

NCC_REACH = 6
"""Largest shift, in pixels, at which the peak of the NCC map is looked for."""


def header(settings: RunSettings) -> dict[str, Any]:
    """Who computed what, with what, in which conventions."""
    device = jax.devices()[0]
    return {
        "schema": SCHEMA,
        "stage": settings.stage,
        "status": "done",
        "seed": settings.seed,
        "input": describe_input(settings),
        "device": {"platform": device.platform, "kind": device.device_kind},
        "versions": {
            "qhrtem_jax": qhrtem_jax.__version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("jax", "jaxlib", "equinox", "numpy")},
        },
        "conventions": {
            "aberrations": settings.microscope.aberration_convention,
            "C1": "C1 > 0 acts like free propagation behind the object",
            "A0": "A0 > 0 moves the image to larger x, y; x runs along columns, y along rows",
            "tilt": "object tilt as Dr. Probe: positive moves the wave by -tilt * thickness",
            "focus_spread": "1/e half-width",
            "semi_convergence": "1/e half-width",
            "image_spread": "rms of a Gaussian",
            "difference": "simulation - experiment",
        },
    }


def figures_of_merit(simulation: np.ndarray, experiment: np.ndarray) -> dict[str, float | None]:
    """Every criterion of `matching.criteria`, with means and deviations; chi-square is added by
    whoever knows the noise."""
    sim, exp = jnp.asarray(simulation), jnp.asarray(experiment)
    difference = simulation - experiment
    small = min(experiment.shape) < 12
    peak = None
    if not small:
        ncc_map = np.asarray(criteria.ncc_map(sim, exp, NCC_REACH))
        peak = float(np.hypot(*_peak(ncc_map)))
    return {
        "mse": float(criteria.mean_squared_error(sim, exp)),
        "ncc": float(criteria.normalised_cross_correlation(sim, exp)),
        "ncc_peak_offset_px": peak,
        "ssim": None if small else float(criteria.structural_similarity(sim, exp)),
        "chi2_reduced": None,
        "r_factor": float(criteria.r_factor(sim, exp)),
        "contrast_exp": float(criteria.contrast(exp)),
        "contrast_sim": float(criteria.contrast(sim)),
        "mean_exp": float(np.mean(experiment)),
        "std_exp": float(np.std(experiment)),
        "mean_sim": float(np.mean(simulation)),
        "std_sim": float(np.std(simulation)),
        "mean_diff": float(np.mean(difference)),
        "std_diff": float(np.std(difference)),
    }


def _peak(ncc_map: np.ndarray) -> tuple[float, float]:
    """Offset (dy, dx) in pixels of the map's maximum from its centre."""
    reach = ncc_map.shape[0] // 2
    row, col = np.unravel_index(np.argmax(ncc_map), ncc_map.shape)
    return float(row - reach), float(col - reach)


def describe_noise(noise: NoiseModel) -> dict[str, Any]:
    """The `noise` of a result."""
    return {
        "variance": noise.variance,
        "correlation": list(noise.lags),
        "source": noise.source,
    }


def noise_remarks(noise: NoiseModel) -> list[str]:
    """What a result must say of a noise that was measured from the residual; that of the vacuum is
    spoken of where it is read."""
    return [noise.remark] if noise.remark is not None and noise.source == "residual" else []


def parameter_table(
    vector: np.ndarray,
    free: set[str],
    std_noise: dict[str, float | None],
    std: dict[str, float | None],
) -> dict[str, dict[str, Any]]:
    """The `parameters` of a result."""
    table = {}
    for name in NAMES:
        value = float(vector[INDEX[name]])
        table[name] = {
            "value": round(value) if name == "thickness" else value,
            "std": std.get(name),
            "std_noise": std_noise.get(name),
            "unit": UNITS[name],
            "free": name in free,
        }
    return table
