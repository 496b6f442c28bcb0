"""Arrays with names, coordinates and units, written as NetCDF4."""

import dataclasses
import io
from collections.abc import Mapping

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


def netcdf(content: Labelled) -> bytes:
    """The content of a file; made in memory, since HDF5 ends the process where a disk is full."""
    import h5netcdf
    import h5py

    memory = io.BytesIO()
    with h5netcdf.File(memory, "w") as target:
        target.attrs.update(content.about)
        for variable in content.variables.values():
            for dim, size in zip(variable.dims, variable.values.shape, strict=True):
                if dim not in target.dimensions:
                    target.dimensions[dim] = size
        for name, variable in content.variables.items():
            texts = variable.values.dtype == object
            made = target.create_variable(
                name,
                variable.dims,
                dtype=h5py.string_dtype() if texts else variable.values.dtype,
                **({} if texts or not variable.dims else {"compression": "gzip"}),
            )
            made[...] = variable.values
            made.attrs.update(variable.about)
    return memory.getvalue()
