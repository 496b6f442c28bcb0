"""Shared set-up: 64-bit mode, and the outside references where they are at hand."""

import os
import sys
from pathlib import Path

import absl.logging
import jax
import pytest

jax.config.update("jax_enable_x64", True)

# absl (through optax) closes the stream that was sys.stderr when it was imported as soon as Hydra
# configures logging: that would be pytest's captured output.
absl.logging.get_absl_handler().python_handler.setStream(sys.__stderr__)


def pytest_configure(config: pytest.Config) -> None:
    """Each worker keeps to its own core: XLA's threads of several processes hinder each other."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is not None and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


SHARED = Path(os.environ.get("QHRTEM_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="session")
def reference_dir() -> Path:
    """Results of Dr. Probe; see tests/README.md for what they are."""
    path = SHARED / "reference"
    if not path.is_dir():
        pytest.skip("the Dr. Probe references are not at hand")
    return path


@pytest.fixture(scope="session")
def bto_dir() -> Path:
    """The real images of BaTiO3 [110]."""
    path = SHARED / "data" / "bto110"
    if not path.is_dir():
        pytest.skip("the BaTiO3 images are not at hand")
    return path
