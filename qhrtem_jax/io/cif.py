"""Crystals from CIF files."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qhrtem_jax.errors import InputError
from qhrtem_jax.io.cif_block import CifBlock, read_block
from qhrtem_jax.io.cif_sites import Site, sites_of
from qhrtem_jax.io.cif_symmetry import Operators, symmetries_of
from qhrtem_jax.io.elements import formula_of
from qhrtem_jax.io.sites import (
    MAX_ATOMS,
    OCCUPANCY_ROUNDING,
    SAME_SITE_NM,
    ListedAtoms,
    atoms_on_sites,
)
from qhrtem_jax.physics.specimen import Atoms, UnitCell, check_cell, metric_of

_MOST_ROUNDING_NM = 0.02
"""Positions typed with two digits in a large cell are off by as much."""

_ANGLES = ("alpha", "beta", "gamma")
_MAX_IMAGES = 20 * MAX_ATOMS
_FORMULA_TOLERANCE = 0.02
_DENSITY_TOLERANCE = 0.05
_GRAMS_PER_CM3 = 1.66053907e-3
"""Of one atomic mass unit in a cubic nanometre."""


def read_cif(path: Path, data: bytes) -> UnitCell:
    """The crystal of a CIF file, expanded by its symmetry.

    **Raises:** `InputError` where the file is damaged, incomplete, contradicts itself, or leaves
    open what the crystal is.
    """
    block = read_block(path, data)
    if block.column("_cell_modulation_dimension") is not None:
        raise InputError(
            f"{block.where('_cell_modulation_dimension')}: expected a crystal that is periodic"
        )
    a, b, c = (block.number(f"_cell_length_{axis}") for axis in "abc")
    alpha, beta, gamma = (block.number(f"_cell_angle_{name}") for name in _ANGLES)
    lengths, angles = (a / 10.0, b / 10.0, c / 10.0), (alpha, beta, gamma)
    try:
        check_cell(lengths, angles)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    metric = metric_of(lengths, angles)
    symmetries = symmetries_of(block, metric)
    sites = sites_of(block, metric)
    refusals, crystals = [], []
    for operators in symmetries:
        try:
            atoms = atoms_on_sites(str(path), metric, _expanded(path, sites, operators, metric))
            _check_contents(block, atoms, float(np.sqrt(np.linalg.det(metric))))
        except InputError as error:
            refusals.append(error)
        else:
            crystals.append((operators, UnitCell(lengths, angles, atoms)))
    if not crystals:
        raise refusals[0]
    if len(crystals) > 1:
        names = " or ".join(operators.name.split(", ")[-1] for operators, _ in crystals)
        raise InputError(
            f"{path}: {crystals[0][0].name.split(', ')[0]} leaves open whether {names} is meant; "
            "expected _space_group_symop_operation_xyz, or the symbol with its ending"
        )
    return crystals[0][1]


def _expanded(
    path: Path, sites: list[Site], operators: Operators, metric: NDArray[np.float64]
) -> ListedAtoms:
    """All atoms of the cell; an atom on a symmetry element is moved onto it and kept once."""
    if len(sites) * len(operators.rotations) > _MAX_IMAGES:
        raise InputError(
            f"{path}: found {len(sites)} sites and {len(operators.rotations)} operators, expected "
            f"at most {MAX_ATOMS} atoms"
        )
    longest = float(np.sqrt(metric.diagonal().max()))
    owners, places, total = [], [], 0
    for number, site in enumerate(sites):
        images = _images(site, operators, metric, longest, f"{path}: atom {site.label}")
        total += len(images)
        if total > MAX_ATOMS:
            raise InputError(f"{path}: found more than {MAX_ATOMS} atoms, expected at most so many")
        owners.append(np.full(len(images), number))
        places.append(images)
    owner = np.concatenate(owners)
    return ListedAtoms(
        [f"atom {sites[k].label}" for k in owner],
        [sites[k].kind for k in owner],
        [sites[k].symbol for k in owner],
        _into_cell(np.concatenate(places)),
        np.array([sites[k].occupancy for k in owner]),
        np.array([sites[k].b_nm2 for k in owner]),
    )


def _images(
    site: Site, operators: Operators, metric: NDArray[np.float64], longest: float, where: str
) -> NDArray[np.float64]:
    """Different positions of a site under all operators."""
    if len(operators.rotations) == 1:
        return site.position[None]
    moved = operators.rotations @ site.position + operators.translations - site.position
    moved -= np.rint(moved)
    distance = np.sqrt(np.maximum(np.einsum("ni,ij,nj->n", moved, metric, moved), 0.0))
    rounding = min(max(1.5 * 10.0**-site.digits * longest, SAME_SITE_NM), _MOST_ROUNDING_NM)
    near = distance < rounding
    # atoms about a symmetry element that share it in time are on different positions
    if site.occupancy * np.count_nonzero(near) <= 1.0 + OCCUPANCY_ROUNDING:
        near = distance < SAME_SITE_NM
    on_element = site.position + moved[near].mean(axis=0)
    images = operators.rotations @ on_element + operators.translations
    # no coordinate that is typed, nor a fraction such as 1/3, is cut at this offset
    keys = np.floor(np.mod(images, 1.0) * 1e6 + 0.3701234567).astype(np.int64) % 1_000_000
    _, first = np.unique(keys, axis=0, return_index=True)
    if len(first) * np.count_nonzero(near) != len(images):
        raise InputError(
            f"{where}: is {distance[near].max():.4f} nm beside a symmetry element, expected it on "
            "the element or far from it"
        )
    return images[np.sort(first)]


def _into_cell(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    wrapped = np.mod(positions, 1.0)
    # what is less than 0 by rounding only is 0
    return np.where(wrapped > 1.0 - 1e-12, 0.0, wrapped)


def _check_contents(block: CifBlock, atoms: Atoms, volume_nm3: float) -> None:
    """A file of which rows are missing contradicts its own formula or density."""
    _check_formula(block, atoms)
    _check_density(block, atoms, volume_nm3)


def _check_formula(block: CifBlock, atoms: Atoms) -> None:
    pair = block.value("_chemical_formula_sum")
    formula = formula_of(pair[1]) if pair is not None else None
    if pair is None or formula is None:
        return
    symbols = np.array(atoms.symbols)
    occupied = {s: float(atoms.occupancy[symbols == s].sum()) for s in set(atoms.symbols)}
    places = {s: int(np.count_nonzero(symbols == s)) for s in occupied}
    units = block.value("_cell_formula_units_Z")
    if units is not None:
        number = _above_zero(block, units[0])
        # some programs count the whole cell in the formula, and reduce it for Z
        factors = [number, 1.0]
    else:
        shared = [s for s in formula if s in occupied and s != "H"] or [*occupied]
        factors = [occupied[s] / formula[s] for s in shared if s in formula] or [1.0]
    wrong = [_first_difference(formula, occupied, places, factor) for factor in factors]
    if all(wrong):
        raise InputError(
            f"{block.where(pair[0])}: {wrong[0]} by {pair[1]!r}"
            + (f" and {units[0]} {units[1]}" if units is not None else "")
            + "; is the file cut off, or the formula wrong?"
        )


def _above_zero(block: CifBlock, tag: str) -> float:
    value = block.number(tag)
    if value <= 0.0:
        raise InputError(f"{block.where(tag)}: found {value:g}, expected more than 0")
    return value


def _first_difference(
    formula: dict[str, float], occupied: dict[str, float], places: dict[str, int], factor: float
) -> str:
    """How the cell differs from its formula; formulae may leave vacancies out of account, and
    hydrogen may be left out of the list of atoms, all of it."""
    for symbol in sorted({*formula, *occupied}):
        expected = factor * formula.get(symbol, 0.0)
        found = occupied.get(symbol, 0.0)
        if symbol == "H" and found == 0.0:
            continue
        slack = _FORMULA_TOLERANCE * max(expected, 1.0)
        if not found - slack <= expected <= places.get(symbol, 0) + slack:
            return f"found {found:.4g} atoms of {symbol} in the cell, expected {expected:.4g}"
    return ""


def _check_density(block: CifBlock, atoms: Atoms, volume_nm3: float) -> None:
    import gemmi

    pair = block.value("_exptl_crystal_density_diffrn")
    if pair is None:
        return
    expected = _above_zero(block, pair[0])
    weights = np.array([gemmi.Element(s).weight for s in atoms.symbols])
    least = _GRAMS_PER_CM3 * float(weights @ atoms.occupancy) / volume_nm3
    most = _GRAMS_PER_CM3 * float(weights.sum()) / volume_nm3
    slack = _DENSITY_TOLERANCE * expected
    if not least - slack <= expected <= most + slack:
        raise InputError(
            f"{block.where(pair[0])}: found {expected:g} g/cm^3, expected {least:.4g} as the atoms "
            "and the cell make it; is the file cut off, or the density wrong?"
        )
