"""Options of the engine."""

import dataclasses
import typing

NAMES = ("none", "local", "dask")


@dataclasses.dataclass(frozen=True)
class EngineOptions:
    """Who computes: this process (`none`), `workers` processes of this machine (`local`), or those
    of a running scheduler at `address` (`dask`)."""

    name: str = "none"
    workers: int | str = "auto"
    address: str | None = None

    CHOICES: typing.ClassVar = {"name": NAMES}
    RANGES: typing.ClassVar = {"workers": (1, 1024)}
