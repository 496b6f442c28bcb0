"""The image shift A0 that fits best, found without a search."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from qhrtem_jax.physics.camera import Camera
from qhrtem_jax.physics.image_formation import ImageFormation
from qhrtem_jax.physics.parameters import Formation

Range = tuple[tuple[float, float], tuple[float, float]]

AROUND = np.array([(x, y) for y in (-1.0, 0.0, 1.0) for x in (-1.0, 0.0, 1.0)])
"""A point and its eight neighbours, in units of their distance."""

DISTANCES = (0.5, 0.25, 0.1)
"""That distance in each round, in units of a point of the image grid."""


class ImageShift(eqx.Module):
    """Moves images of a periodic cell, and finds how far to move them onto an experiment."""

    experiment: Float[Array, "rows cols"]
    contrast: Float[Array, "rows cols"]  # the experiment less its mean
    low: Float[Array, " 2"]  # A0_x, A0_y, nm
    high: Float[Array, " 2"]
    q_y: Float[Array, "image_rows 1"]  # 1/nm
    q_x: Float[Array, " half_cols"]
    cols: int = eqx.field(static=True)  # of the image grid

    @property
    def spacing(self) -> Float[Array, " 2"]:
        """Distance (x, y) of the image grid's points, in nm."""
        rows = self.q_y.shape[0]
        return jnp.stack([1.0 / (self.q_x[1] * self.cols), 1.0 / (self.q_y[1, 0] * rows)])

    def ramp(self, shifts: Float[Array, "n 2"]) -> Complex[Array, "n image_rows half_cols"]:
        """exp(-2 pi i q.shift): moves images to larger x, y by the shift."""
        phase = self.q_x * shifts[:, 0, None, None] + self.q_y * shifts[:, 1, None, None]
        return jnp.exp(-2j * jnp.pi * phase)

    def best(
        self,
        camera: Camera,
        spectra: Complex[Array, "n image_rows half_cols"],
        formation: Formation,
    ) -> Float[Array, "n 2"]:
        """Shifts (x, y) of least squared error against the experiment, one per spectrum.

        From the maximum, over a grid, of the correlation C(s) = Re sum_k spectrum_k g_k
        exp(-2 pi i q_k.s), with g the transpose of the camera applied to the experiment, by two
        Gauss-Newton steps (a frame is no whole number of periods, so the correlation alone is off).
        """
        _, transpose = jax.vjp(
            lambda spectrum: camera.linear(spectrum, formation),
            jnp.zeros(spectra.shape[1:], spectra.dtype),
        )
        terms = spectra * transpose(self.contrast)[0]
        rows, half = terms.shape[1:]
        cols = self.cols
        # irfft2 doubles every column but the first (and the last of an even number).
        column = jnp.arange(half)
        single = (column == 0) | (2 * column == cols)
        grid = jnp.fft.irfft2(
            jnp.conj(terms) * jnp.where(single, 1.0, 0.5), s=(rows, cols), norm="forward"
        )
        y = jnp.fft.fftfreq(rows).astype(self.q_x.dtype) / self.q_y[1, 0]
        x = jnp.fft.fftfreq(cols).astype(self.q_x.dtype) / self.q_x[1]
        allowed = (
            (x >= self.low[0])
            & (x <= self.high[0])
            & ((y >= self.low[1]) & (y <= self.high[1]))[:, None]
        )
        flat = jnp.argmax(jnp.where(allowed, grid, -jnp.inf).reshape(grid.shape[0], -1), axis=1)
        start = jnp.stack([x[flat % cols], y[flat // cols]], axis=1)

        limit = self.spacing
        pixels = jax.vmap(lambda s: camera.linear(s, formation))

        def gauss_newton(_: Array, shifts: Array) -> Array:
            moved = spectra * self.ramp(shifts)
            residual = pixels(moved) - self.experiment
            slope_x, slope_y = (pixels(-2j * jnp.pi * q * moved) for q in (self.q_x, self.q_y))
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
            return jnp.clip(shifts + step, self.low, self.high)

        return jax.lax.fori_loop(0, 2, gauss_newton, start)

    def least(
        self, cost: Callable[[Float[Array, " 2"]], Float[Array, ""]], start: Float[Array, " 2"]
    ) -> Float[Array, " 2"]:
        """The shift of least `cost` near `start`: the minimum of the parabola through a point and
        its neighbours, or the best of these where that is better; then more and more finely."""
        found = start
        for distance in DISTANCES:
            step = distance * self.spacing
            near = jnp.clip(found + jnp.asarray(AROUND, start.dtype) * step, self.low, self.high)
            costs = jax.vmap(cost)(near)
            c = costs.reshape(3, 3)  # [y, x]
            slope_x, slope_y = 0.5 * (c[1, 2] - c[1, 0]), 0.5 * (c[2, 1] - c[0, 1])
            bend_x = c[1, 2] - 2.0 * c[1, 1] + c[1, 0]
            bend_y = c[2, 1] - 2.0 * c[1, 1] + c[0, 1]
            twist = 0.25 * (c[2, 2] - c[2, 0] - c[0, 2] + c[0, 0])
            determinant = bend_x * bend_y - twist**2
            move = jnp.stack(
                [twist * slope_y - bend_y * slope_x, twist * slope_x - bend_x * slope_y]
            )
            move = jnp.where(determinant > 0.0, move / determinant, 0.0)
            lowest = jnp.clip(found + jnp.clip(move, -1.0, 1.0) * step, self.low, self.high)
            lowest = jnp.where(jnp.all(jnp.isfinite(lowest)), lowest, found)
            best = jnp.argmin(jnp.where(jnp.isfinite(costs), costs, jnp.inf))
            found = jnp.where(cost(lowest) <= costs[best], lowest, near[best])
        return found


def make_image_shift(
    formation: ImageFormation, experiment: Float[Array, "rows cols"], within: Range
) -> ImageShift:
    """`within`: bounds of (A0_x, A0_y), nm."""
    optics, dtype = formation.optics, formation.dtype
    cols = formation.image_shape[1]
    low, high = zip(*within, strict=True)
    return ImageShift(
        experiment=experiment,
        contrast=experiment - jnp.mean(experiment),
        low=jnp.asarray(low, dtype),
        high=jnp.asarray(high, dtype),
        q_y=optics.w_y[:, :1] / optics.wavelength_nm,
        q_x=jnp.abs(optics.w_x[0, : cols // 2 + 1]) / optics.wavelength_nm,
        cols=cols,
    )
