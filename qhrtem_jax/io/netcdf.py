"""Arrays with names, coordinates and units, written as NetCDF4."""

import dataclasses
from collections.abc import Mapping
from typing import BinaryIO

import numpy as np
from jaxtyping import Shaped


@dataclasses.dataclass(frozen=True)
class Variable:
    """Values over named dimensions, numbers or (as objects) texts, and what is said of them."""

    dims: tuple[str, ...]
    values: Shaped[np.ndarray, "..."]
    about: Mapping[str, str | float]


@dataclasses.dataclass(frozen=True)
class Labelled:
    """Variables by name, those called like a dimension being its coordinates; what is said of all
    of them."""

    variables: Mapping[str, Variable]
    about: Mapping[str, str | float]


PIECE_BYTES = 2**24
"""Arrays go to the file in pieces of this size, and are compressed where they are one."""


def write_netcdf(content: Labelled, file: BinaryIO) -> None:
    """Write a file that is open for writing and reading."""
    import h5netcdf
    import h5py

    with h5netcdf.File(file, "w") as target:
        target.attrs.update(content.about)
        for variable in content.variables.values():
            for dim, size in zip(variable.dims, variable.values.shape, strict=True):
                if dim not in target.dimensions:
                    target.dimensions[dim] = size
        for name, variable in content.variables.items():
            values = variable.values
            texts = values.dtype == object
            small = values.nbytes <= PIECE_BYTES
            made = target.create_variable(
                name,
                variable.dims,
                dtype=h5py.string_dtype() if texts else values.dtype,
                **({"compression": "gzip"} if small and variable.dims and not texts else {}),
            )
            step = len(values) if small and variable.dims else 1
            if not variable.dims:
                made[...] = values
            for start in range(0, len(values) if variable.dims else 0, step):
                made[start : start + step] = values[start : start + step]
            made.attrs.update(variable.about)
