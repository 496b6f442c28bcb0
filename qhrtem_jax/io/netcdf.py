"""Arrays with names, coordinates and units, written as NetCDF4."""

import dataclasses
from collections.abc import Mapping
from typing import BinaryIO

import numpy as np
from jaxtyping import Shaped

from qhrtem_jax.io.large_arrays import large, pieces


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


def write_netcdf(content: Labelled, file: BinaryIO) -> None:
    """Write a file that is open for writing and reading; what is large is not compressed."""
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
            made = target.create_variable(
                name,
                variable.dims,
                dtype=h5py.string_dtype() if texts else values.dtype,
                **(
                    {"compression": "gzip"}
                    if variable.dims and not texts and not large(values)
                    else {}
                ),
            )
            if not variable.dims:
                made[...] = values
            else:
                for here, part in pieces(values):
                    made[here] = part
            made.attrs.update(variable.about)
