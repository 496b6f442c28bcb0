"""Options of the optimizer, as Bayesian optimization takes them."""

from qhrtem_jax.bayesopt.gp import Prior
from qhrtem_jax.bayesopt.trust_region import TrustRegionOptions
from qhrtem_jax.bayesopt.turbo import TurboOptions
from qhrtem_jax.inputs.settings import OptimizerSettings


def turbo_options(chosen: OptimizerSettings, surrogate: str) -> TurboOptions:
    """What is `chosen`, with a `surrogate` (which may be the problem's choice)."""
    return TurboOptions(
        acquisition=chosen.acquisition,
        surrogate=surrogate,
        output=chosen.output,
        beta=chosen.beta,
        beta_growth=chosen.beta_growth,
        initial_points=chosen.initial_points,
        initial_per_dimension=chosen.initial_per_parameter,
        training_points=chosen.most_training_points,
        prior=Prior(fixed_noise=chosen.fixed_noise),
        region=TrustRegionOptions(
            initial_length=chosen.initial_length,
            minimum_length=chosen.minimum_length,
            maximum_length=chosen.maximum_length,
            successes_to_grow=chosen.successes_to_grow,
            failures_to_shrink=chosen.failures_to_shrink,
            improvement=chosen.improvement,
        ),
    )
