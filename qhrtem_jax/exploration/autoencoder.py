"""Rotationally invariant variational autoencoder: what windows differ in besides orientation.

Of a window's latent numbers one is an angle and two are shifts, by which the decoder's image is
turned and moved; the others, its content, need not tell turned or moved windows apart (Kalinin et
al., arXiv:2010.09196). The decoder's deviation is that which makes the residuals most likely
(Rybkin, Daniilidis, Levine, ICML 2021), so that small differences count as much as noise lets them.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float, PRNGKeyArray

HIDDEN = 128

ANGLE_RAD = 0.3
"""Standard deviation of the angle before a window was seen."""

POSE = 3
"""Latent numbers that say how a window is turned and moved."""


class RotationalAutoencoder(nnx.Module):
    """For windows of `mean`'s shape; `content`: latent numbers besides the pose; `shift_px`:
    standard deviation of the shifts before a window was seen (0: none, as for FFT magnitudes)."""

    def __init__(
        self, mean: Float[np.ndarray, "side side"], content: int, shift_px: float, rngs: nnx.Rngs
    ) -> None:
        side = mean.shape[0]
        self.side, self.shift_px = side, shift_px
        self.seen = nnx.Linear(side * side, HIDDEN, rngs=rngs)
        self.thought = nnx.Linear(HIDDEN, HIDDEN, rngs=rngs)
        self.latent = nnx.Linear(HIDDEN, 2 * (POSE + content), rngs=rngs)
        self.recalled = nnx.Linear(content, HIDDEN, rngs=rngs)
        self.drawn = nnx.Linear(HIDDEN, HIDDEN, rngs=rngs)
        small = nnx.initializers.normal(0.01)
        flat = jnp.asarray(mean.ravel(), jnp.float32)
        self.image = nnx.Linear(
            HIDDEN, side * side, kernel_init=small, bias_init=lambda *_: flat, rngs=rngs
        )

    def encode(
        self, windows: Float[Array, "n side side"]
    ) -> tuple[Float[Array, "n latents"], Float[Array, "n latents"]]:
        """(means, logarithms of the variances) of the latent numbers."""
        flat = windows.reshape(len(windows), -1)
        hidden = nnx.gelu(self.thought(nnx.gelu(self.seen(flat))))
        mean, log_variance = jnp.split(self.latent(hidden), 2, axis=-1)
        return mean, log_variance

    def decode(self, latents: Float[Array, "n latents"]) -> Float[Array, "n side side"]:
        """Windows of latent numbers."""
        hidden = nnx.gelu(self.drawn(nnx.gelu(self.recalled(latents[:, POSE:]))))
        images = self.image(hidden).reshape(-1, self.side, self.side)
        middle = (self.side - 1) / 2.0
        y, x = jnp.meshgrid(*(jnp.arange(self.side) - middle,) * 2, indexing="ij")

        def posed(image: Array, pose: Array) -> Array:
            angle, shift = ANGLE_RAD * pose[0], self.shift_px * pose[1:]
            cos, sin = jnp.cos(angle), jnp.sin(angle)
            rows = cos * y - sin * x + middle + shift[0]
            cols = sin * y + cos * x + middle + shift[1]
            return map_coordinates(image, [rows, cols], order=1, mode="nearest")

        return jax.vmap(posed)(images, latents[:, :POSE])


def evidence(
    network: RotationalAutoencoder, examples: tuple[Float[Array, "n side side"]], key: PRNGKeyArray
) -> Float[Array, ""]:
    """Minus the lower bound of log p(window), in nats per window, but for a constant."""
    (windows,) = examples
    mean, log_variance = network.encode(windows)
    noise = jax.random.normal(key, mean.shape, mean.dtype)
    found = network.decode(mean + jnp.exp(0.5 * log_variance) * noise)
    missed = 0.5 * found[0].size * jnp.log(jnp.mean((found - windows) ** 2) + 1e-12)
    apart = 0.5 * jnp.sum(jnp.exp(log_variance) + mean**2 - 1.0 - log_variance, axis=1)
    return missed + jnp.mean(apart)


def latent_maps(
    network: RotationalAutoencoder, windows: Float[np.ndarray, "n side side"]
) -> Float[np.ndarray, "k n"]:
    """Principal axes of the content, then the angle, then how much the network misses of each
    window; each with mean 0 and deviation 1."""
    device = jnp.asarray(windows)
    mean, _ = network.encode(device)
    missed = np.mean((np.asarray(network.decode(mean)) - windows) ** 2, axis=(1, 2))
    latents = np.asarray(mean, float)
    content = latents[:, POSE:] - latents[:, POSE:].mean(axis=0)
    _, _, axes = np.linalg.svd(content, full_matrices=False)
    found = np.concatenate([content @ axes.T, latents[:, :1], missed[:, None]], axis=1)
    found = found - found.mean(axis=0)
    return (found / np.maximum(found.std(axis=0), 1e-12)).T
