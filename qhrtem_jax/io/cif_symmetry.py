"""Symmetry of a CIF file: operators, Hall symbol, Hermann-Mauguin symbol or number."""

import collections
import dataclasses
import re

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import NDArray

from qhrtem_jax.errors import InputError
from qhrtem_jax.io.cif_block import CifBlock

_OPERATORS = (
    "_space_group_symop_operation_xyz",
    "_symmetry_equiv_pos_as_xyz",
)
_HALL = ("_space_group_name_Hall", "_symmetry_space_group_name_Hall")
_SYMBOLS = (
    "_space_group_name_H-M_alt",
    "_symmetry_space_group_name_H-M",
    "_space_group_name_H-M_full",
    "_space_group_name_H-M_ref",
)
_NUMBERS = ("_space_group_IT_number", "_symmetry_Int_Tables_number")
_SETTING = "_space_group_IT_coordinate_system_code"
_BEYOND = ("_space_group_symop_magn_operation_xyz", "_space_group_symop_ssg_operation_algebraic")
_MOST_OPERATORS = 400
_TRANSLATION = 24
_METRIC_TOLERANCE = 0.01


@dataclasses.dataclass(frozen=True)
class Operators:
    """Symmetry operators x' = rotation x + translation of a cell, fractions; `name` for messages,
    `number` in the International Tables, 0 where the setting is not tabulated."""

    rotations: Int64[np.ndarray, "operators 3 3"]
    translations: Float64[np.ndarray, "operators 3"]
    name: str
    number: int


def symmetries_of(block: CifBlock, metric: Float64[np.ndarray, "3 3"]) -> list[Operators]:
    """What the file says about symmetry: one group of operators, or several where it leaves open
    which of the tabulated origins is meant.

    Operators count most, then the Hall symbol, the Hermann-Mauguin symbol and the number. What the
    file says twice must agree.

    **Raises:** `InputError` where the symmetry is missing, damaged or contradicts itself or the
    cell.
    """
    for tag in _BEYOND:
        if block.column(tag) is not None:
            raise InputError(f"{block.where(tag)}: expected an ordinary space group")
    symbols, number = _groups_by_symbol(block), _number(block)
    listed = [tag for tag in _OPERATORS if block.column(tag) is not None]
    if listed:
        choices = [_listed_operators(block, tag) for tag in listed]
        if len(choices) == 2 and _codes(choices[0]) != _codes(choices[1]):
            raise InputError(f"{block.where(listed[1])}: contradicts {listed[0]}")
        choices = choices[:1]
    elif (hall := _by_hall(block)) is not None:
        choices = [hall]
    else:
        choices = _tabulated(block, symbols, number)
    for operators in choices:
        for tag, text, group in symbols:
            _require_same_group(block, f"{tag} {text!r}", group, operators)
        if number is not None:
            tag, group = number
            _require_same_group(block, f"{tag} {group.number}", group, operators)
    fitting = [operators for operators in choices if _fits(operators, metric)]
    if not fitting:
        raise InputError(
            f"{block.path}: the cell's lengths and angles contradict the symmetry "
            f"({choices[0].name}), expected a cell that all operators leave as it is"
        )
    return fitting


def _number(block: CifBlock):
    """Tag and group of the number in the International Tables."""
    import gemmi

    found = [pair for tag in _NUMBERS if (pair := block.value(tag)) is not None]
    for tag, text in found:
        if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 230):
            raise InputError(f"{block.where(tag)}: found {text!r}, expected a number from 1 to 230")
    if len({int(text) for _, text in found}) > 1:
        raise InputError(f"{block.where(found[1][0])}: contradicts {found[0][0]}")
    if not found:
        return None
    return found[0][0], gemmi.get_spacegroup_reference_setting(int(found[0][1]))


def _groups_by_symbol(block: CifBlock) -> list[tuple]:
    """Tag, text and tabulated group of each Hermann-Mauguin symbol that is known."""
    found = []
    for tag in _SYMBOLS:
        pair = block.value(tag)
        group = _group_of_symbol(pair[1]) if pair is not None else None
        if pair is not None and group is not None:
            found.append((tag, pair[1], group))
    return found


def _group_of_symbol(text: str):
    import gemmi

    return gemmi.find_spacegroup_by_name(_usual(text)) if text.strip() else None


def _usual(text: str) -> str:
    """A Hermann-Mauguin symbol in the usual spelling, its ending (origin or axes) behind ":"."""
    plain = re.sub(r"[_()]", "", text.strip())
    # "S" and "Z": how some databases name the first and the second origin
    for ending, usual in (("1", "1"), ("2", "2"), ("S", "1"), ("Z", "2"), ("H", "H"), ("R", "R")):
        gap = ":" if ending.isdigit() else r"[\s:]"
        plain = re.sub(rf"\s*{gap}\s*{ending}$", f":{usual}", plain, flags=re.IGNORECASE)
    return plain


def _listed_operators(block: CifBlock, tag: str) -> Operators:
    import gemmi

    texts = block.column(tag) or []
    if len(texts) > _MOST_OPERATORS:
        raise InputError(f"{block.where(tag)}: found {len(texts)} operators, expected at most 192")
    triplets = []
    for text in texts:
        try:
            if not re.fullmatch(r"[xyzXYZ\d+\-*/., ]+", text):
                raise ValueError("unknown letters")
            triplets.append(gemmi.Op(text).wrap())
        except (RuntimeError, ValueError) as error:
            raise InputError(
                f"{block.where(tag)}: found {text!r} ({error}), expected an operator such as "
                "'-x, y, z+1/2'"
            ) from None
    operators = _from_gemmi(triplets, tag)
    codes = _codes(operators)
    determinants = np.rint(np.linalg.det(operators.rotations))
    if not np.all(np.abs(determinants) == 1) or len(codes) != len(texts):
        raise InputError(
            f"{block.where(tag)}: found an operator that is damaged or listed twice among "
            f"{len(texts)}, expected the operators of a space group"
        )
    products = np.einsum("aij,bjk->abik", operators.rotations, operators.rotations)
    shifts = np.einsum("aij,bj->abi", operators.rotations, operators.translations)
    shifts = shifts + operators.translations[:, None]
    closed = _codes(Operators(products.reshape(-1, 3, 3), shifts.reshape(-1, 3), operators.name, 0))
    if closed != codes:
        raise InputError(
            f"{block.where(tag)}: the {len(texts)} operators make no group, so that some are "
            "missing or damaged; expected the operators of a space group"
        )
    group = gemmi.find_spacegroup_by_ops(gemmi.GroupOps(triplets))
    return dataclasses.replace(operators, number=0 if group is None else group.number)


def _from_gemmi(triplets, name: str, number: int = 0) -> Operators:
    rotations = np.array([op.rot for op in triplets])
    translations = np.array([op.tran for op in triplets]) / _TRANSLATION
    whole, rest = np.divmod(rotations, triplets[0].DEN)
    # a rotation by fractions of an edge is none: 0 has no inverse, and is refused for it
    return Operators(np.where(rest == 0, whole, 0), translations, name, number)


def _codes(operators: Operators) -> set[tuple[int, ...]]:
    """Operators as numbers, translations within the cell."""
    shifts = np.rint(operators.translations * _TRANSLATION).astype(int) % _TRANSLATION
    rows = np.concatenate([operators.rotations.reshape(-1, 9), shifts], axis=1)
    return {tuple(row) for row in np.unique(rows, axis=0).tolist()}


def _by_hall(block: CifBlock) -> Operators | None:
    import gemmi

    pair = block.value(*_HALL)
    if pair is None:
        return None
    try:
        group = gemmi.symops_from_hall(pair[1])
    except (RuntimeError, ValueError):
        return None
    known = gemmi.find_spacegroup_by_ops(group)
    number = 0 if known is None else known.number
    return _from_gemmi(list(group), f"{pair[0]} {pair[1]!r}", number)


def _tabulated(block: CifBlock, symbols: list[tuple], number) -> list[Operators]:
    """Groups of the symbol or the number, in all origins and axes that it leaves open."""
    import gemmi

    if symbols:
        tag, text, group = symbols[0]
        opened = ":" not in _usual(text)
        name = f"{tag} {text!r}"
    elif number is not None:
        tag, group = number
        opened, name = True, f"{tag} {group.number}"
    else:
        unknown = block.value(*_SYMBOLS)
        found = f"{unknown[0]} {unknown[1]!r}, which is unknown" if unknown else "none"
        raise InputError(
            f"{block.path}: found {found}; expected the symmetry as {_OPERATORS[0]}, {_SYMBOLS[0]} "
            f"or {_NUMBERS[0]}"
        )
    groups = [g for g in gemmi.spacegroup_table() if g.hm == group.hm] if opened else [group]
    code = block.value(_SETTING)
    if code is not None and len(groups) > 1:
        chosen = [g for g in groups if g.ext == code[1].strip(" :").upper()[:1]]
        groups = chosen or groups
    return [_from_gemmi(list(g.operations()), f"{name}, {g.xhm()}", g.number) for g in groups]


def _require_same_group(block: CifBlock, says: str, group, operators: Operators) -> None:
    """Settings differ among files, so that only the type of the group is compared."""
    same = operators.number == group.number
    if operators.number == 0:
        tabulated = _from_gemmi(list(group.operations()), "", group.number)
        same = _crystal_class(tabulated) == _crystal_class(operators)
    if not same:
        what = f"number {operators.number}" if operators.number else "another crystal class"
        raise InputError(
            f"{block.path}: {says} contradicts {operators.name} ({what}), expected one space group"
        )


def _crystal_class(operators: Operators) -> collections.Counter:
    """Kinds of rotations and how many of each, which no change of axes alters."""
    rotations = np.unique(operators.rotations, axis=0)
    return collections.Counter((round(np.linalg.det(r)), int(np.trace(r))) for r in rotations)


def _fits(operators: Operators, metric: NDArray[np.float64]) -> bool:
    turned = np.einsum("nji,jk,nkl->nil", operators.rotations, metric, operators.rotations)
    edges = np.sqrt(np.diag(metric))
    return bool(np.all(np.abs(turned - metric) <= _METRIC_TOLERANCE * np.outer(edges, edges)))
