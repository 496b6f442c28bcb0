"""The one crystal of a CIF file as a table of its items, nothing yet understood."""

import dataclasses
import re
from pathlib import Path

import numpy as np

from qhrtem_jax.errors import InputError
from qhrtem_jax.io.sites import number_of

MAX_VALUES = 1_000_000
"""Words in a CIF file; more are reflections or trajectories, not a crystal."""

MAX_BLOCKS, MAX_TAGS = 1000, 20_000
"""Blocks and items in a CIF file: the parser compares all of them with each other."""

_BLOCK = re.compile(rb"(?:^|\s)data_", re.IGNORECASE)
_WANTED = ("_cell_", "_symmetry_", "_space_group_", "_atom_site", "_chemical_formula_", "_exptl_")


@dataclasses.dataclass(frozen=True)
class CifBlock:
    """Items of a data block that describe a crystal.

    `items`: values of each tag, in small letters and with "_" for "."; "?" and "." are left as
    they are. `loop_of`: number of the loop that a tag stands in, -1 for none.
    """

    path: Path
    items: dict[str, list[str]]
    loop_of: dict[str, int]

    def where(self, tag: str) -> str:
        return f"{self.path}: {tag}"

    def value(self, *tags: str) -> tuple[str, str] | None:
        """The first of `tags` that has a value, and the value."""
        for tag in tags:
            values = self.items.get(tag.lower(), [])
            if len(values) == 1 and values[0] not in ("?", ".", ""):
                return tag, values[0]
        return None

    def column(self, tag: str) -> list[str] | None:
        return self.items.get(tag.lower())

    def number(self, tag: str) -> float:
        """**Raises:** `InputError` where the item is missing or no number."""
        values = self.items.get(tag.lower(), [])
        if len(values) != 1:
            found = f"{len(values)} values" if values else "no such item"
            raise InputError(f"{self.where(tag)}: found {found}, expected a number")
        return number_of(values[0], self.where(tag))


def read_block(path: Path, data: bytes) -> CifBlock:
    """The block with atoms.

    **Raises:** `InputError` where the file is damaged or cut off, or does not hold one crystal.
    """
    import gemmi

    _refuse_crowds(path, data)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    # names of authors and the like may be in any alphabet: what counts here is ASCII
    text = "".join(c if ord(c) < 128 else "~" for c in text) if not text.isascii() else text
    try:
        document = gemmi.cif.read_string(text)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{path}: found no readable CIF ({error}), expected CIF syntax") from None
    crystals = [block for block in document if _has_atoms(block)]
    if len(crystals) != 1:
        named = [f"data_{b.name[:40]}" for b in list(crystals or document)[:9]]
        names = ", ".join(named) or "no block"
        raise InputError(
            f"{path}: found {len(crystals)} blocks with atoms ({names}), expected one block with "
            "_atom_site_fract_x, _y, _z"
        )
    block = crystals[0]
    items: dict[str, list[str]] = {}
    loop_of: dict[str, int] = {}
    for number, item in enumerate(block):
        for tag, raw in _values(path, item):
            if not tag.startswith(_WANTED):
                continue
            if tag in items:
                raise InputError(f"{path}: {tag}: found twice, expected once")
            items[tag] = [_plain(gemmi, value) for value in raw]
            loop_of[tag] = -1 if item.pair is not None else number
    last = document[-1]
    ends_with = [tag for item in list(last)[-1:] for tag, _ in _values(path, item)]
    if last is block and any(tag in items for tag in ends_with):
        _refuse_open_end(path, text)
    return CifBlock(path, items, loop_of)


def _refuse_crowds(path: Path, data: bytes) -> None:
    codes = np.frombuffer(data, dtype=np.uint8)
    gap = codes <= 32
    words = int(np.count_nonzero(gap[1:] & ~gap[:-1]))
    tags = int(np.count_nonzero(gap[:-1] & (codes[1:] == ord("_"))))
    blocks = 0 if words > MAX_VALUES else sum(1 for _ in _BLOCK.finditer(data))
    for found, most, what in (
        (words, MAX_VALUES, "words"),
        (tags, MAX_TAGS, "items"),
        (blocks, MAX_BLOCKS, "blocks"),
    ):
        if found > most:
            raise InputError(f"{path}: found {found} {what}, expected at most {most}: one crystal")


def _has_atoms(block) -> bool:
    tags = ("_atom_site_fract_x", "_atom_site.fract_x", "_atom_site_Cartn_x", "_atom_site.Cartn_x")
    return any(len(block.find_values(tag)) > 0 for tag in tags)


def _values(path: Path, item):
    """Tags of a pair or a loop, each with its values."""
    if item.pair is not None:
        tag, value = item.pair
        yield _tag(tag), [value]
    elif item.loop is not None:
        loop = item.loop
        if loop.length() == 0:
            raise InputError(
                f"{path}: the loop of {loop.tags[0]} has no rows, expected one or more: "
                "is the file cut off?"
            )
        values, width = loop.values, loop.width()
        for column, tag in enumerate(loop.tags):
            yield _tag(tag), values[column::width]


def _tag(tag: str) -> str:
    return tag.lower().replace(".", "_")


def _plain(gemmi, raw: str) -> str:
    return raw if raw in ("?", ".") else gemmi.cif.as_string(raw).strip()


def _refuse_open_end(path: Path, text: str) -> None:
    """A last number of which digits are missing is a number still, so its line must be ended."""
    line = text.replace("\r", "\n").rpartition("\n")[2].strip()
    if line and not line.startswith(("#", ";")):
        raise InputError(
            f"{path}: the last line {line[-40:]!r} has no end, expected a line break behind it: "
            "is the file cut off?"
        )
