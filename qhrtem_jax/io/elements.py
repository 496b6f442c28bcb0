"""Elements as files write them: "Ba2+", "O1-", "D", "CA1"."""

import re

from qhrtem_jax.errors import InputError
from qhrtem_jax.io.cif_block import CifBlock
from qhrtem_jax.physics.scattering import atomic_number

_LABEL = re.compile(r"^([A-Z][a-z]?)(?:\d*[+-]\d*)?$")
_TYPE = re.compile(r"([A-Za-z]{1,2})(?:\(?\d*[+-]?\d*\)?)", re.ASCII)
_FORMULA = re.compile(r"([A-Z][a-z]?)(\d*\.?\d*)", re.ASCII)


def element_of(label: str, where: str) -> str:
    """Element symbol of a label such as "Ba2+"; charges are dropped (neutral atoms scatter).

    **Raises:** `InputError` for anything else.
    """
    match = _LABEL.match(label)
    if match is None:
        raise InputError(
            f"{where}: found atom label {label!r}, expected an element such as Ba or Ba2+"
        )
    return _known(match.group(1), where)


def _known(symbol: str, where: str) -> str:
    symbol = "H" if symbol == "D" else symbol
    try:
        atomic_number(symbol)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    return symbol


def _is_element(symbol: str) -> bool:
    try:
        _known(symbol, "")
    except InputError:
        return False
    return True


def element_of_site(kind: str | None, label: str, formula: set[str], where: str) -> str:
    """Element of a site of a CIF file, from its type symbol, or else from its label.

    Capital letters are ambiguous in labels: CA1 may be carbon or calcium. `formula`, the elements
    of the crystal where the file lists them, decides then.

    **Raises:** `InputError` for an element that is unknown or ambiguous.
    """
    if kind is not None:
        match = _TYPE.fullmatch(kind)
        if match is None:
            raise InputError(
                f"{where}: found type symbol {kind!r}, expected an element such as Ba or Ba2+"
            )
        return _known(match.group(1).capitalize(), where)
    letters = (re.match(r"[A-Za-z]*", label) or [""])[0]
    if re.match(r"[A-Z][a-z](?![a-z])", letters):
        return _known(letters[:2], where)
    if re.match(r"[A-Z][a-z]{2}", letters):
        choices = []
    else:
        choices = [
            "H" if s == "D" else s
            for s in {letters[:2].capitalize(), letters[:1].upper()}
            if s and _is_element(s)
        ]
    listed = [symbol for symbol in choices if symbol in formula] if formula else choices
    if len(listed) != 1:
        found = f"{' or '.join(sorted(listed))}?" if listed else "no element"
        raise InputError(
            f"{where}: found label {label!r} ({found}), expected _atom_site_type_symbol, an "
            "element such as Ba or Ba2+"
        )
    return listed[0]


def formula_of(text: str) -> dict[str, float] | None:
    """Atoms of each element in a formula such as 'Al O3 Y'; None where it is written otherwise."""
    counts: dict[str, float] = {}
    for word in text.split():
        match = _FORMULA.fullmatch(word)
        if match is None or match.group(2) == "." or not _is_element(match.group(1)):
            return None
        symbol = "H" if match.group(1) == "D" else match.group(1)
        counts[symbol] = counts.get(symbol, 0.0) + float(match.group(2) or 1.0)
    return counts if counts and all(c > 0.0 for c in counts.values()) else None


def element_in_formula(block: CifBlock) -> set[str]:
    """Elements of the crystal, where the file lists them."""
    pair = block.value("_chemical_formula_sum")
    return set(formula_of(pair[1]) or ()) if pair is not None else set()
