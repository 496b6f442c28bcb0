"""GPJax posterior and marginal likelihood: python -m tests.bayesopt.gpjax_posterior IN OUT (.npz).

A process of its own, since importing GPJax changes global state (logging, filters).
"""

import sys

import jax

jax.config.update("jax_enable_x64", True)

import gpjax  # noqa: E402  (after the switch to 64 bits)
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

JITTER = 1.4e-8  # ours is 1e-8 of the signal variance; GPJax adds 1e-6 by default


def main() -> None:
    case = np.load(sys.argv[1])
    kernel = gpjax.kernels.Matern52(
        lengthscale=jnp.asarray(case["lengthscale"]), variance=jnp.asarray(case["variance"])
    )
    prior = gpjax.gps.Prior(
        mean_function=gpjax.mean_functions.Constant(jnp.asarray(case["mean"])),
        kernel=kernel,
        jitter=JITTER,
    )
    model = prior * gpjax.likelihoods.Gaussian(obs_stddev=jnp.sqrt(jnp.asarray(case["noise"])))
    data = gpjax.Dataset(X=jnp.asarray(case["x"]), y=jnp.asarray(case["y"])[:, None])
    predicted = model.predict(jnp.asarray(case["points"]), train_data=data)
    np.savez(
        sys.argv[2],
        mean=predicted.mean,
        covariance=predicted.covariance(),
        likelihood=gpjax.objectives.conjugate_mll(model, data),
    )


if __name__ == "__main__":
    main()
