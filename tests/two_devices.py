"""Prints `done` if work over two devices gives what one alone gives; a process of its own, since
how many devices there are is said before the first program runs."""

import jax

if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 2)
    jax.config.update("jax_enable_x64", True)

    import equinox as eqx
    import jax.numpy as jnp
    import numpy as np
    import pytest

    from qhrtem_jax.numerics import devices
    from qhrtem_jax.refine.whole_field import Changes, with_changes
    from tests.physics import crystal as sto
    from tests.refine.test_whole_field import LAYOUT, make_case

    class Power(eqx.Module):
        """A function with something that is no array."""

        offset: jax.Array
        exponent: int = eqx.field(static=True)

    def powers(common: Power, items: tuple[jax.Array, jax.Array]) -> dict[str, jax.Array]:
        first, second = items

        def spread_of(x: jax.Array) -> jax.Array:
            begun = jnp.zeros(())  # a loop that begins with a constant
            return jax.lax.fori_loop(0, common.exponent, lambda _, y: y + x * common.offset, begun)

        spread = jax.lax.map(spread_of, first)
        return {"value": spread, "sum": first + second[:, 0]}

    assert devices.count() == 2
    power = Power(jnp.asarray(0.5), 3)
    items = (jnp.arange(6.0), jnp.arange(12.0).reshape(6, 2))
    found = jax.jit(lambda p, i: devices.over_devices(powers, p, i))(power, items)
    assert len(found["value"].sharding.device_set) == 2
    for name, expected in powers(power, items).items():
        np.testing.assert_array_equal(np.asarray(found[name]), np.asarray(expected))
    some = devices.filled_up(jnp.arange(5.0)[:, None], 2)
    np.testing.assert_array_equal(some[:, 0], [0.0, 1.0, 2.0, 3.0, 4.0, 4.0])
    with pytest.raises(ValueError, match="5 items"):
        devices.over_devices(powers, power, (jnp.arange(5.0), jnp.zeros((5, 2))))
    # what the package shares out: tables of images, other numbers of a field, derivatives
    simulator = sto.simulator()
    vectors = jnp.asarray([sto.vector(C1=c1) for c1 in (3.0, 4.0, 5.0)], simulator.dtype)
    images = np.asarray(simulator.images(vectors))
    alone = np.array([simulator.image(vector) for vector in vectors])
    np.testing.assert_allclose(images, alone, atol=1e-5)
    assert np.ptp(images, axis=0).max() > 1e-3
    model, _, points = make_case()
    points = jnp.asarray(points)
    state = model.placement.state(points)
    counts = jnp.tile(state.counts[:2], (2, 1, 1)).at[1, 1, 2].add(-1.0)
    chains = jnp.asarray([[-1], [len(state.counts[0]) + 2]])
    starts = jnp.tile(state.starts[:2], (2, 1, 1))
    beside = jnp.tile(model.placement.first_starts, (2, 1, 1))
    both = with_changes(model, points, Changes(counts, starts, beside, chains))
    np.testing.assert_allclose(both[0], model.residuals(points), atol=1e-8)
    there = points.at[:, LAYOUT.counts].set(counts[1])
    fixed = eqx.tree_at(
        lambda m: (m.placement.counts, m.placement.starts), model, (counts[1], starts[1])
    )
    np.testing.assert_allclose(both[1], fixed.residuals(there), atol=1e-8)
    print("done")
