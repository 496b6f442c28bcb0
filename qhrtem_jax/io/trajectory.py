"""Lattices of a simulation of molecular dynamics: extended XYZ, one frame after the other."""

from pathlib import Path

from qhrtem_jax.errors import InputError
from qhrtem_jax.io.files import read_bytes
from qhrtem_jax.io.xyz import read_xyz
from qhrtem_jax.physics.specimen import UnitCell

MAX_BYTES = 512 * 2**20


def read_trajectory(path: Path, option: str) -> list[UnitCell]:
    """The frames of an extended .xyz file; `option` is named in errors.

    **Raises:** `InputError` for a missing, too large or damaged file; of a damaged frame, its
    number is named, and lines are counted from the frame's own first.
    """
    if path.suffix.lower() != ".xyz":
        raise InputError(f"{option}: {path} ends with {path.suffix!r}, expected .xyz")
    lines = read_bytes(path, option, MAX_BYTES).splitlines(keepends=True)
    while lines and not lines[-1].strip():
        lines.pop()
    frames: list[UnitCell] = []
    at = 0
    while at < len(lines):
        head = lines[at].strip()
        count = int(head) if head.isdigit() and len(head) < 10 else 0
        end = at + 2 + count
        try:
            frames.append(read_xyz(path, b"".join(lines[at:end])))
        except InputError as error:
            raise InputError(f"{option}, frame {len(frames) + 1}: {error}") from None
        at = end
    return frames
