"""Which version of the package this is."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("qhrtem_jax")
except PackageNotFoundError:  # a source tree that was never installed
    VERSION = "0+unknown"
