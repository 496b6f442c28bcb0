"""Thermal diffuse scattering: frozen lattices, and the absorption that stands for them."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qhrtem_jax.errors import InputError
from qhrtem_jax.physics.camera import Frame
from qhrtem_jax.physics.columns import columns_of, sites_of
from qhrtem_jax.physics.field import FieldState, make_field
from qhrtem_jax.physics.frozen import make_frozen, repeated
from qhrtem_jax.physics.microscope import Microscope
from qhrtem_jax.physics.parameters import INDEX
from qhrtem_jax.physics.scattering import absorptive_factor, scattering_factor
from qhrtem_jax.physics.simulator import make_simulator
from qhrtem_jax.physics.specimen import Atoms, Crystal, PotentialModel, slice_phases
from qhrtem_jax.physics.structured import make_structured
from tests.physics import crystal as sto

MICROSCOPE = Microscope(mtf=sto.MTF)
SMALL = Frame((6, 8), (0.05, 0.06), (0.01, 0.02))


def frozen(crystal=None, frame=SMALL, **options):
    known = {
        "grid_shape": (20, 28),
        "image_shape": (16, 20),
        "slices": 6,
        "configurations": 3,
        "seed": 7,
        "tiles": (2, 2),
        "precision": "float64",
    }
    return make_frozen(crystal or sto.crystal(), MICROSCOPE, frame, **(known | options))


def at_rest(crystal):
    still = np.zeros_like(crystal.atoms.b_nm2)
    return dataclasses.replace(crystal, atoms=dataclasses.replace(crystal.atoms, b_nm2=still))


def vector(**values):
    return jnp.asarray(sto.vector(**({"thickness": 5, "C1": 4.0, "tilt_x": 3.0} | values)))


@pytest.mark.parametrize(("symbol", "b_nm2"), [("O", 0.0072), ("Ba", 0.0043), ("C", 0.0014)])
def test_absorptive_factor_is_half_the_variance_of_an_atoms_phase(symbol, b_nm2):
    """Independently, in real space: blurred squares less squares of what is blurred."""
    n, size = 1536, 1.2
    q = np.hypot(*np.meshgrid(*2 * [np.fft.fftfreq(n, size / n)], indexing="ij"))
    factor, blur = scattering_factor("lobato", symbol, q), np.exp(-b_nm2 * q**2 / 4.0)
    scale = n**2 / size**2  # sums over frequencies -> integrals
    phase, moved = (np.fft.ifft2(f).real * scale for f in (factor, factor * blur))
    blurred = np.fft.ifft2(np.fft.fft2(phase**2) * blur).real
    variance = np.fft.fft2(blurred - moved**2).real / scale
    some = np.array([0, 3, 9, 20, 40, 60])
    found = absorptive_factor("lobato", symbol, q[0, some], b_nm2)
    np.testing.assert_allclose(found, 0.5 * variance[0, some], atol=4e-3 * found[0])
    assert found[0] > 0.0
    np.testing.assert_array_equal(absorptive_factor("lobato", symbol, q[0, some], 0.0), 0.0)


def test_a_lattice_at_rest_scatters_as_ever():
    still = at_rest(sto.crystal())
    simulator = frozen(still)
    options = {"grid_shape": (20, 28), "image_shape": (16, 20), "slices": 6}
    plain = make_simulator(still, MICROSCOPE, SMALL, precision="float64", **options)
    for values in ({}, {"thickness": 2, "absorption": 0.1}):
        image, error = simulator.image_and_error(vector(**values))
        np.testing.assert_allclose(image, plain.image(vector(**values)), atol=1e-9)
        assert float(jnp.max(error)) < 1e-9
    wave, (total, elastic) = simulator.wave_and_patterns(vector())
    np.testing.assert_allclose(elastic, total, atol=1e-12)
    np.testing.assert_allclose(
        wave,
        np.fft.ifft2(
            plain.wave_at_thickness(plain.waves(plain.typed(vector())), jnp.asarray(5.0)),
            norm="forward",
        ),
        atol=1e-9,
    )


def test_an_image_is_the_mean_of_all_cells_and_lattices():
    """A displaced lattice, imaged as a large cell, at the place of each of its cells."""
    whole = at_rest(repeated(sto.crystal(), (2, 2)))
    rng = np.random.default_rng(3)
    moved = []
    for _ in range(3):
        places = whole.atoms.positions + rng.normal(size=whole.atoms.positions.shape) * 0.01
        moved.append(
            dataclasses.replace(whole, atoms=dataclasses.replace(whole.atoms, positions=places))
        )
    deep = whole.slices  # thicker ones are of several lattices
    found = frozen(snapshots=moved, slices=deep).image(vector(thickness=deep))
    a, b, _ = sto.crystal().size_nm
    every = []
    for crystal in moved:
        for row, col in np.ndindex(2, 2):
            origin = SMALL.origin_nm[0] + row * b, SMALL.origin_nm[1] + col * a
            simulator = make_simulator(
                crystal,
                MICROSCOPE,
                dataclasses.replace(SMALL, origin_nm=origin),
                grid_shape=(40, 56),
                image_shape=(32, 40),
                slices=deep,
                precision="float64",
            )
            every.append(simulator.image(vector(thickness=deep)))
    assert np.std(np.array(every), axis=0).max() > 0.01
    np.testing.assert_allclose(found, np.mean(every, axis=0), atol=1e-9)


def test_below_a_lattice_another_one_follows():
    """One that began again would be displaced alike: what it scatters adds up in amplitude."""
    cell, rng, times = at_rest(repeated(sto.crystal(), (2, 2))), np.random.default_rng(4), 4

    def displaced(depth):
        """`depth` cells, one below the other, displaced independently."""
        one, shape = cell.atoms, (depth, *cell.atoms.positions.shape)
        places = one.positions + rng.normal(size=shape) * [0.008, 0.008, 0.0]
        places[..., 2] = (one.positions[:, 2] + np.arange(depth)[:, None]) / depth
        atoms = Atoms(
            one.symbols * depth,
            places.reshape(-1, 3),
            np.tile(one.occupancy, depth),
            np.tile(one.b_nm2, depth),
        )
        width, height, thickness = cell.size_nm
        return Crystal((width, height, depth * thickness), atoms, depth * cell.slices)

    thick = vector(thickness=times * cell.slices, tilt_x=0.0, absorption=0.0)
    diffuse = []
    for depth in (1, times):
        simulator = frozen(
            snapshots=[displaced(depth) for _ in range(24)],
            slices=times * cell.slices,
            configurations=24,
        )
        _, (total, elastic) = simulator.wave_and_patterns(thick)
        diffuse.append(float(jnp.sum(total - elastic)))
    assert diffuse[0] == pytest.approx(diffuse[1], rel=0.1)


def test_what_absorption_takes_is_what_frozen_lattices_scatter_diffusely():
    options = {"grid_shape": (32, 44), "image_shape": (32, 44), "slices": 8}
    simulator = frozen(configurations=24, tiles=(3, 2), **options)
    alone = vector(thickness=8, tilt_x=0.0, absorption=0.0)
    _, (total, elastic) = simulator.wave_and_patterns(alone)
    patterns = {}
    for thermal in (False, True):
        plain = make_simulator(
            sto.crystal(), MICROSCOPE, SMALL, thermal_absorption=thermal, **options
        )
        patterns[thermal] = np.asarray(plain.wave_and_patterns(alone)[1][0])
    diffuse = float(jnp.sum(total - elastic))
    lost = patterns[False].sum() - patterns[True].sum()
    assert lost > 0.004
    # the grid's band cuts the potential of atoms at rest, and takes some of what they scatter
    assert float(jnp.sum(elastic)) == pytest.approx(patterns[True].sum(), abs=0.2 * lost)
    assert 0.6 * lost < diffuse < lost
    beams = np.asarray(elastic)[::3, ::2]
    strong = patterns[True] > 2e-4
    assert strong.sum() > 5
    closer = np.abs(beams - patterns[True])[strong] / np.abs(beams - patterns[False])[strong]
    assert np.median(closer) < 0.3


def test_derivatives_are_those_of_the_mean():
    simulator = frozen(configurations=2, tiles=(1, 1))
    weights = jnp.asarray(np.random.default_rng(0).normal(size=SMALL.shape))

    @eqx.filter_jit
    def value(vector, larger):
        grown = eqx.tree_at(lambda s: s.lattice.rms_nm, simulator, replace_fn=lambda r: r * larger)
        return jnp.sum(weights * grown.image(vector))

    at = vector(absorption=0.02, focus_spread=3.0), jnp.asarray(1.1)
    by_vector, by_rms = jax.jit(jax.grad(value, argnums=(0, 1)))(*at)
    for name, step in (("C1", 1e-4), ("tilt_x", 1e-4), ("absorption", 1e-6)):
        change = step * jnp.zeros(len(INDEX)).at[INDEX[name]].set(1.0)
        slope = (value(at[0] + change, at[1]) - value(at[0] - change, at[1])) / (2.0 * step)
        assert float(by_vector[INDEX[name]]) == pytest.approx(float(slope), rel=1e-5), name
    slope = (value(at[0], at[1] + 1e-5) - value(at[0], at[1] - 1e-5)) / 2e-5
    assert abs(float(slope)) > 1e-4
    assert float(by_rms) == pytest.approx(float(slope), rel=1e-5)


def test_the_same_seed_displaces_the_same():
    first, again, other = (frozen(seed=s, tiles=(1, 1)).images(vector()) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert float(jnp.max(jnp.abs(first - other))) > 1e-3
    assert float(jnp.max(jnp.abs(first[0] - first[1]))) > 1e-3
    assert np.isnan(frozen(tiles=(1, 1)).image(vector(thickness=7))).all()
    with pytest.raises(InputError, match="configurations: found 1, expected at least 2"):
        frozen(configurations=1)


def test_columns_and_fields_absorb_alike():
    """All three simulators, of the same crystal."""
    options = {"grid_shape": (20, 28), "image_shape": (16, 20), "precision": "float64"}
    of_crystal, of_nothing = (
        make_simulator(
            sto.crystal(), MICROSCOPE, SMALL, slices=8, thermal_absorption=thermal, **options
        ).image(vector(thickness=8))
        for thermal in (True, False)
    )
    columns = columns_of(sto.crystal())
    known = {"thermal_absorption": True, **options}
    structured = make_structured(columns, sites_of(columns, 2), MICROSCOPE, SMALL, **known)
    layout, counts = structured.layout, columns.most_atoms(2)
    still, full = np.zeros((layout.columns, 2)), np.ones(layout.chains)
    point = layout.point(np.asarray(vector()), still, counts, full)
    np.testing.assert_allclose(structured.image(jnp.asarray(point)), of_crystal, atol=1e-9)
    field = make_field(columns, (1, 1), 2, MICROSCOPE, SMALL, **known)
    state = FieldState(
        imaging=vector(),
        counts=jnp.asarray(counts[None], float),
        starts=jnp.zeros((1, layout.chains)),
        shifts_nm=jnp.asarray(still[None]),
        occupancies=jnp.asarray(full[None]),
        absorption=vector()[INDEX["absorption"]][None],
        mtf_stretch=jnp.zeros(2),
    )
    np.testing.assert_allclose(field.image(state), of_crystal, atol=1e-9)
    assert float(jnp.max(jnp.abs(of_crystal - of_nothing))) > 2e-3


def test_the_mean_phase_is_that_of_the_debye_waller_factor():
    """Of two kinds, with unlike displacements, at frequencies where the factor is far from 1."""
    simulator = frozen(tiles=(1, 1))
    lattice, grid = simulator.lattice, sto.crystal().grid((20, 28))
    keys = jax.random.split(jax.random.key(5), 6000)
    here = jnp.asarray(0), jnp.asarray(0)
    phases = eqx.filter_jit(lambda k: jax.lax.map(lambda key: lattice.phase(*here, key), k))(keys)
    found = np.fft.fft2(np.mean(phases, axis=0), norm="forward")
    expected = np.fft.fft2(slice_phases(sto.crystal(), PotentialModel(), grid)[0], norm="forward")
    resting = slice_phases(at_rest(sto.crystal()), PotentialModel(), grid)[0]
    far = np.hypot(*grid.frequencies()) > 14.0
    missed = np.linalg.norm((found - expected)[far])
    assert missed < 0.05 * np.linalg.norm((np.fft.fft2(resting, norm="forward") - expected)[far])


def test_errors_and_beams_are_those_of_the_drawn_waves():
    """The standard error of a mean; beams as products of different configurations' waves, in which
    nothing diffuse is left on average."""
    simulator = frozen(configurations=5, tiles=(2, 1))
    _, error = simulator.image_and_error(vector())
    images = np.asarray(simulator.images(vector()))
    np.testing.assert_allclose(error, np.std(images, axis=0, ddof=1) / 5**0.5, rtol=1e-9)
    parameters = simulator.formation.typed(vector())
    waves = np.array([simulator.wave(parameters, jnp.asarray(k)) for k in range(5)])[:, ::2]
    pairs = [(waves[i] * waves[j].conj()).real for i in range(5) for j in range(5) if i != j]
    _, (_, elastic) = simulator.wave_and_patterns(vector())
    np.testing.assert_allclose(np.asarray(elastic)[::2], np.mean(pairs, axis=0), atol=1e-12)


def test_partly_occupied_sites_scatter_in_part():
    still = at_rest(sto.crystal())
    share = np.linspace(0.3, 1.0, len(still.atoms.symbols))
    half = dataclasses.replace(still, atoms=dataclasses.replace(still.atoms, occupancy=share))
    options = {"grid_shape": (20, 28), "image_shape": (16, 20), "slices": 6}
    plain = make_simulator(half, MICROSCOPE, SMALL, precision="float64", **options)
    np.testing.assert_allclose(frozen(half).image(vector()), plain.image(vector()), atol=1e-9)
