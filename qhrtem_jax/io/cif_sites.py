"""Sites of a CIF file: elements, positions, occupancies and Debye-Waller factors."""

import dataclasses
import math
import re

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray

from qhrtem_jax.errors import InputError
from qhrtem_jax.io.cif_block import CifBlock
from qhrtem_jax.io.elements import element_in_formula, element_of_site
from qhrtem_jax.io.sites import OCCUPANCY_ROUNDING, number_of, occupancy_of

B_NM2_PER_U_A2 = 8.0 * math.pi**2 * 0.01
_MOST_U_A2 = 100.0
"""No atom of a crystal is as far from its place as this says."""

_XYZ = ("x", "y", "z")
_TENSOR = ("11", "22", "33", "12", "13", "23")
_NOT_GIVEN = ("?", ".", "")


@dataclasses.dataclass(frozen=True)
class Site:
    """One site: `kind` is the element as the file writes it, with its charge; `position` in
    fractions of the cell, typed with `digits` digits; `b_nm2`, B."""

    label: str
    kind: str
    symbol: str
    position: Float64[np.ndarray, " 3"]
    digits: int
    occupancy: float
    b_nm2: float


class _Rows:
    """The atom loop, row by row, dummy atoms left out."""

    def __init__(self, block: CifBlock) -> None:
        self.block = block
        tags = [t for t in block.items if _of_atoms(t)]
        counts = {len(block.items[t]) for t in tags}
        if len({block.loop_of[t] for t in tags}) > 1 and (
            len(counts) > 1 or any(block.loop_of[t] >= 0 for t in tags)
        ):
            raise InputError(
                f"{block.path}: found _atom_site_ items in several loops, expected one loop"
            )
        flags = block.column("_atom_site_calc_flag")
        count = counts.pop()
        self.kept = [k for k in range(count) if flags is None or flags[k].lower() != "dum"]

    def column(self, tag: str) -> list[str] | None:
        values = self.block.column(tag)
        return None if values is None else [values[k] for k in self.kept]


def _of_atoms(tag: str) -> bool:
    return tag.startswith("_atom_site_") and not tag.startswith("_atom_site_aniso_")


def sites_of(block: CifBlock, metric: Float64[np.ndarray, "3 3"]) -> list[Site]:
    """**Raises:** `InputError` for anything that is missing, no number, or can not be."""
    rows = _Rows(block)
    labels = rows.column("_atom_site_label") or rows.column("_atom_site_id")
    kinds = rows.column("_atom_site_type_symbol")
    if labels is None and kinds is None:
        raise InputError(f"{block.path}: found no _atom_site_label, expected one for each atom")
    names = labels or [f"{kind} (row {k + 1})" for k, kind in enumerate(kinds or [])]
    if not names:
        raise InputError(f"{block.path}: found dummy atoms only, expected atoms")
    positions, digits = _positions(rows, names, metric)
    occupancies = _occupancies(rows, names)
    b_nm2 = _debye_waller(rows, names, positions, metric)
    formula = element_in_formula(block)
    sites = []
    for k, name in enumerate(names):
        kind = kinds[k] if kinds is not None and kinds[k] not in _NOT_GIVEN else None
        symbol = element_of_site(kind, name, formula, f"{block.path}: atom {name}")
        sites.append(
            Site(name, kind or symbol, symbol, positions[k], digits[k], occupancies[k], b_nm2[k])
        )
    return sites


def _positions(
    rows: _Rows, names: list[str], metric: NDArray[np.float64]
) -> tuple[NDArray[np.float64], list[int]]:
    fractions = [rows.column(f"_atom_site_fract_{axis}") for axis in _XYZ]
    if any(column is not None for column in fractions):
        return _coordinates(rows.block, "_atom_site_fract_", fractions, names)
    cartesian = [rows.column(f"_atom_site_Cartn_{axis}") for axis in _XYZ]
    values, _ = _coordinates(rows.block, "_atom_site_Cartn_", cartesian, names)
    matrix, vector = _fractions_of_cartesian(rows.block, metric)
    return values @ matrix.T + vector, [4] * len(names)


def _coordinates(
    block: CifBlock, stem: str, columns: list[list[str] | None], names: list[str]
) -> tuple[NDArray[np.float64], list[int]]:
    table = []
    for axis, column in zip(_XYZ, columns, strict=True):
        if column is None:
            raise InputError(f"{block.where(stem + axis)}: found no such item, expected numbers")
        table.append(
            [
                number_of(v, f"{block.where(stem + axis)} of {n}")
                for v, n in zip(column, names, strict=True)
            ]
        )
    digits = [
        max(len(re.sub(r"\(.*", "", column[k]).partition(".")[2]) for column in columns if column)
        for k in range(len(names))
    ]
    values = np.array(table).T
    if np.abs(values).max() > 1e4:
        raise InputError(f"{block.where(stem)}: found {np.abs(values).max():g}, expected positions")
    return values, digits


def _fractions_of_cartesian(
    block: CifBlock, metric: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Matrix and vector that make fractions of the cell from Cartesian Angstroms.

    Nobody knows how Cartesian axes lie in the crystal unless the file says it.
    """
    for kind in ("fract", "Cartn"):
        stem = f"_atom_sites_{kind}_tran"
        if block.column(f"{stem}_matrix_11") is None:
            continue
        matrix = np.array(
            [[block.number(f"{stem}_matrix_{i}{j}") for j in (1, 2, 3)] for i in (1, 2, 3)]
        )
        vector = np.array(
            [
                block.number(f"{stem}_vector_{i}")
                if block.column(f"{stem}_vector_{i}") is not None
                else 0.0
                for i in (1, 2, 3)
            ]
        )
        if abs(np.linalg.det(matrix)) < 1e-12:
            raise InputError(f"{block.where(stem)}_matrix: found no rotation of the cell's edges")
        inverse = np.linalg.inv(matrix)
        edges = 0.1 * (inverse if kind == "fract" else matrix)
        if not np.allclose(edges.T @ edges, metric, rtol=0.01, atol=1e-3 * metric.max()):
            raise InputError(f"{block.where(stem)}_matrix: contradicts the cell's edges")
        return (matrix, vector) if kind == "fract" else (inverse, -inverse @ vector)
    raise InputError(
        f"{block.path}: found _atom_site_Cartn_ coordinates without "
        "_atom_sites_fract_tran_matrix_11 and its like, expected _atom_site_fract_x, _y, _z"
    )


def _occupancies(rows: _Rows, names: list[str]) -> list[float]:
    tag = "_atom_site_occupancy"
    column = rows.column(tag)
    if column is None:
        return [1.0] * len(names)
    wheres = [f"{rows.block.where(tag)} of {name}" for name in names]
    # "." is the dictionary's default, 1; "?" says that nobody knows
    found = [
        1.0 if v == "." else occupancy_of(number_of(v, w), w)
        for v, w in zip(column, wheres, strict=True)
    ]
    _check_disorder(rows, names, found)
    return found


def _check_disorder(rows: _Rows, names: list[str], occupancies: list[float]) -> None:
    """Of the groups of an assembly one is there at a time."""
    groups = rows.column("_atom_site_disorder_group")
    if groups is None:
        return
    assemblies = rows.column("_atom_site_disorder_assembly") or ["."] * len(names)
    most: dict[str, dict[str, float]] = {}
    for name, assembly, group, occupancy in zip(
        names, assemblies, groups, occupancies, strict=True
    ):
        if group in _NOT_GIVEN:
            continue
        if group.startswith("-") and occupancy > 0.5 + OCCUPANCY_ROUNDING:
            raise InputError(
                f"{rows.block.where('_atom_site_occupancy')} of {name}: found {occupancy:g} in "
                f"disorder group {group}, about a symmetry element; expected at most 0.5"
            )
        part = most.setdefault(assembly, {})
        part[group] = max(part.get(group, 0.0), occupancy)
    for assembly, part in most.items():
        total = sum(part.values())
        if total > 1.0 + OCCUPANCY_ROUNDING:
            raise InputError(
                f"{rows.block.where('_atom_site_disorder_group')}: the occupancies of groups "
                f"{', '.join(sorted(part))} of assembly {assembly} sum to {total:.4g}, "
                "expected at most 1"
            )


def _debye_waller(
    rows: _Rows, names: list[str], positions: NDArray[np.float64], metric: NDArray[np.float64]
) -> list[float]:
    """B in nm^2 of each site: from the anisotropic tensor, or else U_iso, or else B_iso, or else
    0 where the file gives none."""
    tensors = _tensors(rows, names, positions, metric)
    isotropic = []
    for tag, scale in (
        ("_atom_site_U_iso_or_equiv", B_NM2_PER_U_A2),
        ("_atom_site_B_iso_or_equiv", 0.01),
    ):
        column = rows.column(tag)
        if column is not None:
            isotropic.append((rows.block.where(tag), column, scale))
    found = []
    for k, name in enumerate(names):
        value = tensors.get(k)
        for where, column, scale in isotropic:
            if column[k] in _NOT_GIVEN:
                continue
            given = scale * number_of(column[k], f"{where} of {name}")
            if not 0.0 <= given < _MOST_U_A2 * B_NM2_PER_U_A2:
                raise InputError(
                    f"{where} of {name}: found {column[k]}, expected 0 to a few Angstrom^2"
                )
            value = given if value is None else value
        found.append(0.0 if value is None else value)
    return found


def _tensors(
    rows: _Rows, names: list[str], positions: NDArray[np.float64], metric: NDArray[np.float64]
) -> dict[int, float]:
    """B in nm^2 of the sites (by number) that have an anisotropic tensor other than 0."""
    block = rows.block
    for tag in ("_atom_site_aniso_beta_11", "_atom_site_aniso_ratio"):
        if block.column(tag) is not None:
            raise InputError(f"{block.where(tag)}: expected _atom_site_aniso_U_11 and its like")
    owners = _owners(rows, names, positions)
    reciprocal = np.sqrt(np.diag(np.linalg.inv(metric)))
    found: dict[int, float] = {}
    for kind, scale in (("U", 1.0), ("B", 1.0 / (8.0 * math.pi**2))):
        stem = f"_atom_site_aniso_{kind}_"
        columns = [block.column(stem + ij) for ij in _TENSOR]
        for row, sites in enumerate(owners):
            fields = [column[row] if column is not None else "?" for column in columns]
            if not sites or all(field in _NOT_GIVEN for field in fields):
                continue
            where = f"{block.path}: {stem}ij of {names[sites[0]]}"
            tensor = np.zeros((3, 3))
            for ij, field in zip(_TENSOR, fields, strict=True):
                i, j = int(ij[0]) - 1, int(ij[1]) - 1
                tensor[i, j] = tensor[j, i] = number_of(field, where)
            # the mean over directions of real space, in skew cells not the mean of the diagonal
            mean = float(np.sum(tensor * np.outer(reciprocal, reciprocal) * metric)) / 3.0
            if not 0.0 <= mean < _MOST_U_A2:
                raise InputError(
                    f"{where}: found a mean of {mean:.4g}, expected 0 to {_MOST_U_A2:g} Angstrom^2"
                )
            if mean > 0.0:
                found.update(dict.fromkeys(sites, mean * scale * B_NM2_PER_U_A2))
    return found


def _owners(rows: _Rows, names: list[str], positions: NDArray[np.float64]) -> list[list[int]]:
    """Sites (by number) that each row of the anisotropic tensors is about: one, or several
    elements on one position; none for a dummy atom."""
    block = rows.block
    labels = block.column("_atom_site_aniso_label")
    if len({block.loop_of[tag] for tag in block.items if tag.startswith("_atom_site_aniso_")}) > 1:
        raise InputError(f"{block.path}: found _atom_site_aniso_ in several loops, expected one")
    first = [t for t in ("_atom_site_aniso_U_11", "_atom_site_aniso_B_11") if block.column(t)]
    if labels is None and not first:
        return []
    if labels is None:
        if block.loop_of[first[0].lower()] != block.loop_of.get("_atom_site_fract_x"):
            raise InputError(f"{block.where(first[0])}: found no _atom_site_aniso_label")
        own = {row: k for k, row in enumerate(rows.kept)}
        return [
            [own[row]] if row in own else [] for row in range(len(block.column(first[0]) or []))
        ]
    everyone = block.column("_atom_site_label") or []
    loose = {_letters(label) for label in everyone}
    sites: dict[str, list[int]] = {}
    for k, name in enumerate(names):
        sites.setdefault(name, []).append(k)
        if len(loose) == len(set(everyone)) and _letters(name) != name:
            sites.setdefault(_letters(name), []).append(k)
    found = []
    for label in labels:
        mine = sites.get(label) or sites.get(_letters(label), [])
        where = block.where("_atom_site_aniso_label")
        if not mine and label not in everyone:
            raise InputError(
                f"{where}: found {label!r}, which is none of the atoms; expected a row with its "
                "position: is the file cut off?"
            )
        if mine and np.ptp(positions[mine], axis=0).max() > 1e-3:
            raise InputError(f"{where}: found {label!r}, expected a label of one position only")
        found.append(mine)
    return found


def _letters(label: str) -> str:
    """Some databases write O-h1 here and Oh1 there."""
    return re.sub(r"[^a-z0-9]", "", label.lower())
