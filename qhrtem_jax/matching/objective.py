"""From parameter vectors to scores: simulate, profile out thickness and shift, compare."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qhrtem_jax.matching.likelihood import Likelihood, mean_square
from qhrtem_jax.physics.grid import kept_frequencies
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.physics.simulator import Simulator

MOST_PIXELS = 65536
"""Images of more pixels are compared in the functions that they are made of, see `Band`."""


class Evaluation(eqx.Module):
    """Outcome for one parameter vector; a leading batch axis appears for batches.

    `vector` is the input with what was profiled filled in, so that
    `simulator.image(vector) == image`.
    """

    mse: Float[Array, ""]
    vector: Float[Array, " parameters"]
    image: Float[Array, "rows cols"]


class Objective(eqx.Module):
    """Mean squared error of simulated images against one experimental image.

    One propagation gives the wave behind every slice, so with `profile_thickness` each vector gets
    the best whole number of slices within `thickness_range` at no further propagation. With
    `profile_shift` the image shift A0 is found from the cross-correlation, within `shift_range`.
    What is profiled is ignored in the input vector.
    """

    simulator: Simulator
    experiment: Float[Array, "rows cols"]
    contrast: Float[Array, "rows cols"]  # the experiment less its mean
    likelihood: Likelihood  # its objective is the mean squared error
    shift_low: Float[Array, " 2"]  # A0_x, A0_y, nm
    shift_high: Float[Array, " 2"]
    q_y: Float[Array, "image_rows 1"]  # 1/nm
    q_x: Float[Array, " half_cols"]
    thickness_penalty: Float[Array, " thicknesses"]  # prior, in units of the MSE
    thickness_range: tuple[int, int] = eqx.field(static=True)
    profile_thickness: bool = eqx.field(static=True)
    profile_shift: bool = eqx.field(static=True)

    @property
    def pixels(self) -> int:
        """Number of pixels of the experiment."""
        return self.likelihood.pixels

    def errors(self, images: Float[Array, "n rows cols"]) -> Float[Array, " n"]:
        """Mean squared error of each image."""
        return self.likelihood.objective(images, self.experiment)

    @eqx.filter_jit
    def evaluate(self, vectors: Float[Array, "batch parameters"]) -> Evaluation:
        """Evaluate a batch, `simulator.batch` at a time; one propagation per vector."""
        return jax.lax.map(self.evaluate_one, vectors, batch_size=self.simulator.batch)

    def evaluate_one(self, vector: Float[Array, " parameters"]) -> Evaluation:
        """Evaluate one vector."""
        if self.profile_shift:
            vector = vector.at[_SHIFT].set(0.0)
        parameters = self.simulator.typed(vector)
        waves = self.simulator.waves(parameters.absorption, parameters.tilt_rad)
        low, high = self.thickness_range
        if self.profile_thickness:
            thickness = jnp.arange(low, high + 1, dtype=vector.dtype)
            waves = waves[low - 1 : high]
        else:
            thickness = jnp.clip(jnp.round(vector[INDEX["thickness"]]), low, high)[None]
            waves = self.simulator.wave_at_thickness(waves, thickness[0])[None]
        spectra = self.simulator.spectrum(waves, parameters)
        shifts = jnp.broadcast_to(vector[_SHIFT], (spectra.shape[0], 2))
        if self.profile_shift:
            shifts = self.best_shifts(spectra, parameters.image_spread_nm)
            spectra = spectra * self.ramp(shifts)
        images = jax.vmap(self.simulator.camera, (0, None))(spectra, parameters.image_spread_nm)
        errors = self.errors(images)
        ranked = errors + self.thickness_penalty if self.profile_thickness else errors
        best = jnp.argmin(jnp.where(jnp.isfinite(ranked), ranked, jnp.inf))
        filled = vector.at[_SHIFT].set(shifts[best]).at[INDEX["thickness"]].set(thickness[best])
        return Evaluation(errors[best], filled, images[best])

    def ramp(self, shifts: Float[Array, "n 2"]) -> Array:
        """exp(-2 pi i q.shift): moves images to larger x, y by the shift."""
        phase = self.q_x * shifts[:, 0, None, None] + self.q_y * shifts[:, 1, None, None]
        return jnp.exp(-2j * jnp.pi * phase)

    def best_shifts(self, spectra: Array, image_spread_nm: Float[Array, ""]) -> Float[Array, "n 2"]:
        """Shifts (x, y) of least squared error against the experiment, one per spectrum.

        From the maximum, over a grid, of the correlation C(s) = Re sum_k spectrum_k g_k
        exp(-2 pi i q_k.s), with g the transpose of the camera applied to the experiment, by two
        Gauss-Newton steps (a frame is no whole number of periods, so the correlation alone is off).
        """
        _, transpose = jax.vjp(
            lambda spectrum: self.simulator.camera.linear(spectrum, image_spread_nm),
            jnp.zeros(spectra.shape[1:], spectra.dtype),
        )
        terms = spectra * transpose(self.contrast)[0]
        rows, half = terms.shape[1:]
        cols = self.simulator.image_shape[1]
        # irfft2 doubles every column but the first (and the last of an even number).
        column = jnp.arange(half)
        single = (column == 0) | (2 * column == cols)
        grid = jnp.fft.irfft2(
            jnp.conj(terms) * jnp.where(single, 1.0, 0.5), s=(rows, cols), norm="forward"
        )
        y = jnp.fft.fftfreq(rows).astype(self.q_x.dtype) / self.q_y[1, 0]
        x = jnp.fft.fftfreq(cols).astype(self.q_x.dtype) / self.q_x[1]
        allowed = (
            (x >= self.shift_low[0])
            & (x <= self.shift_high[0])
            & ((y >= self.shift_low[1]) & (y <= self.shift_high[1]))[:, None]
        )
        flat = jnp.argmax(jnp.where(allowed, grid, -jnp.inf).reshape(grid.shape[0], -1), axis=1)
        start = jnp.stack([x[flat % cols], y[flat // cols]], axis=1)

        limit = jnp.stack([1.0 / (self.q_x[1] * cols), 1.0 / (self.q_y[1, 0] * rows)])
        camera = jax.vmap(lambda s: self.simulator.camera.linear(s, image_spread_nm))

        def gauss_newton(_: int, shifts: Array) -> Array:
            moved = spectra * self.ramp(shifts)
            residual = camera(moved) - self.experiment
            slope_x, slope_y = (camera(-2j * jnp.pi * q * moved) for q in (self.q_x, self.q_y))
            g_x, g_y, h_xx, h_yy, h_xy = (
                jnp.sum(a * b, axis=(1, 2))
                for a, b in (
                    (slope_x, residual),
                    (slope_y, residual),
                    (slope_x, slope_x),
                    (slope_y, slope_y),
                    (slope_x, slope_y),
                )
            )
            determinant = jnp.maximum(h_xx * h_yy - h_xy**2, 1e-6 * h_xx * h_yy + 1e-30)
            step = jnp.stack([h_xy * g_y - h_yy * g_x, h_xy * g_x - h_xx * g_y], axis=1)
            step = jnp.clip(step / determinant[:, None], -limit, limit)
            return jnp.clip(shifts + step, self.shift_low, self.shift_high)

        return jax.lax.fori_loop(0, 2, gauss_newton, start)


class Band(eqx.Module):
    """Orthonormal functions of the rows, (pixel_rows, m), and of the columns, (pixel_cols, n), that
    span every image of a simulator.

    A simulated image is a sum of the image grid's frequencies, so its pixels are coordinates in an
    orthonormal basis of as many functions; what the experiment has beyond them no image explains.
    Sums of squares stay what they are, and nothing grows with the number of pixels.
    """

    along_rows: np.ndarray
    along_cols: np.ndarray

    @property
    def size(self) -> int:
        return self.along_rows.shape[1] * self.along_cols.shape[1]

    def coordinates(self, image: np.ndarray) -> np.ndarray:
        """Coordinates (m, n) of an image (pixel_rows, pixel_cols)."""
        return self.along_rows.T @ image @ self.along_cols

    def of(self, simulator: Simulator) -> Simulator:
        """The simulator whose images are coordinates in this basis."""
        camera, dtype = simulator.camera, simulator.dtype
        parts = lambda c: (c.to_rows_real, c.to_rows_imag, c.to_cols_real, c.to_cols_imag)  # noqa: E731
        rows = [self.along_rows.T @ np.asarray(m, float) for m in parts(camera)[:2]]
        cols = [np.asarray(m, float) @ self.along_cols for m in parts(camera)[2:]]
        camera = eqx.tree_at(parts, camera, [jnp.asarray(m, dtype) for m in (*rows, *cols)])
        return eqx.tree_at(lambda s: s.camera, simulator, camera)


def band_of(simulator: Simulator) -> Band | None:
    """Basis of the images of a simulator; None where it would not save anything.

    A camera whose transfer acts on the frame (compatibility=drprobe) has no such basis.
    """
    camera = simulator.camera
    pixels = camera.to_rows_real.shape[0] * camera.to_cols_real.shape[1]
    rows, cols = simulator.image_shape
    if pixels <= MOST_PIXELS or camera.frame_transfer or 2 * rows * cols > pixels:
        return None
    return Band(
        _orthonormal(camera.to_rows_real, camera.to_rows_imag),
        _orthonormal(camera.to_cols_real.T, camera.to_cols_imag.T),
    )


def _orthonormal(real: Array, imag: Array) -> np.ndarray:
    functions = np.concatenate([np.asarray(real, float), np.asarray(imag, float)], axis=1)
    basis, weight, _ = np.linalg.svd(functions, full_matrices=False)
    return basis[:, weight > 1e-6 * weight[0]]


def in_band(objective: Objective, band: Band) -> Objective:
    """The same objective with its images in the coordinates of `band`, `band_of` its simulator."""
    image = np.asarray(objective.experiment, float)
    dtype = objective.experiment.dtype
    within = band.coordinates(image)
    beyond = image - band.along_rows @ within @ band.along_cols.T
    level = band.coordinates(np.full(image.shape, image.mean()))
    return eqx.tree_at(
        lambda o: (o.simulator, o.experiment, o.contrast, o.likelihood),
        objective,
        (
            band.of(objective.simulator),
            jnp.asarray(within, dtype),
            jnp.asarray(within - level, dtype),
            mean_square(image.size, dtype, float(np.sqrt(np.sum(beyond**2)))),
        ),
    )


_SHIFT = slice(INDEX["A0_x"], INDEX["A0_y"] + 1)


def make_objective(
    simulator: Simulator,
    experiment: Float[Array, "rows cols"],
    *,
    thickness_range: tuple[int, int],
    shift_range: tuple[tuple[float, float], tuple[float, float]] = ((-0.05, 0.05), (-0.05, 0.05)),
    profile: tuple[str, ...] = ("thickness", "shift"),
    thickness_penalty: np.ndarray | None = None,
) -> Objective:
    """Objective for one image.

    **Arguments:** `thickness_range`, first and last number of slices; `shift_range`, bounds of
    (A0_x, A0_y) in nm; `thickness_penalty`, one number per thickness of the range, added to the MSE
    when the best is chosen (a prior).
    """
    unknown = set(profile) - {"thickness", "shift"}
    if unknown:
        raise ValueError(f"cannot profile {sorted(unknown)}")
    if thickness_penalty is None:
        thickness_penalty = np.zeros(thickness_range[1] - thickness_range[0] + 1)
    dtype = simulator.dtype
    wavelength = simulator.optics.wavelength_nm
    rows, cols = simulator.image_shape
    kept = kept_frequencies(simulator.w_y.shape[0], rows)
    image = jnp.asarray(experiment, dtype)
    return Objective(
        simulator=simulator,
        experiment=image,
        contrast=image - jnp.mean(image),
        likelihood=mean_square(image.size, dtype),
        shift_low=jnp.asarray([low for low, _ in shift_range], dtype),
        shift_high=jnp.asarray([high for _, high in shift_range], dtype),
        q_y=(simulator.w_y[kept] / wavelength)[:, None],
        q_x=simulator.w_x[: cols // 2 + 1] / wavelength,
        thickness_penalty=jnp.asarray(thickness_penalty, dtype),
        thickness_range=thickness_range,
        profile_thickness="thickness" in profile,
        profile_shift="shift" in profile,
    )
