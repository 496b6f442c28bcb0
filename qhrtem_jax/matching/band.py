"""Large images in the functions that they are made of."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qhrtem_jax.physics.simulator import Simulator

MOST_PIXELS = 65536
"""Images of more pixels are compared in the functions that they are made of."""


class Band(eqx.Module):
    """Orthonormal functions of the rows and of the columns that span every image of a simulator.

    A simulated image is a sum of the image grid's frequencies, so its pixels are coordinates in an
    orthonormal basis of as many functions; what the experiment has beyond them no image explains.
    Sums of squares stay what they are, and nothing grows with the number of pixels.
    """

    along_rows: Float[np.ndarray, "pixel_rows m"]
    along_cols: Float[np.ndarray, "pixel_cols n"]

    @property
    def size(self) -> int:
        return self.along_rows.shape[1] * self.along_cols.shape[1]

    def coordinates(
        self, image: Float[np.ndarray, "pixel_rows pixel_cols"]
    ) -> Float[np.ndarray, "m n"]:
        """Coordinates of an image."""
        return self.along_rows.T @ image @ self.along_cols

    def of(self, simulator: Simulator) -> Simulator:
        """The simulator whose images are coordinates in this basis."""
        camera, dtype = simulator.formation.camera, simulator.dtype
        parts = lambda c: (c.to_rows_real, c.to_rows_imag, c.to_cols_real, c.to_cols_imag)  # noqa: E731
        rows = [self.along_rows.T @ np.asarray(m, float) for m in parts(camera)[:2]]
        cols = [np.asarray(m, float) @ self.along_cols for m in parts(camera)[2:]]
        camera = eqx.tree_at(parts, camera, [jnp.asarray(m, dtype) for m in (*rows, *cols)])
        return eqx.tree_at(lambda s: s.formation.camera, simulator, camera)


def band_of(simulator: Simulator) -> Band | None:
    """Basis of the images of a simulator; None where it would not save anything.

    A camera whose transfer acts on the frame (compatibility=drprobe) has no such basis.
    """
    camera = simulator.formation.camera
    pixels = camera.pixels[0] * camera.pixels[1]
    rows, cols = simulator.formation.image_shape
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
