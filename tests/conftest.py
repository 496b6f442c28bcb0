"""Shared set-up: 64-bit mode, one compilation cache, the outside references where at hand."""

import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import absl.logging
import jax
import psutil
import pytest
from jaxtyping import install_import_hook

import tests.typechecking  # noqa: F401, named below

jax.config.update("jax_enable_x64", True)
CHECKED = ["qhrtem_jax"]
"""What is checked at every call: annotations, of shapes and of types."""

install_import_hook(CHECKED, "tests.typechecking.checked").__enter__()

QUICKLY_COMPILED = ["--xla_backend_optimization_level=0"]
"""Most programs run for less time than they take to compile, which this cuts to a fifth; XLA reads
it when it compiles first, and processes that tests start inherit it."""

if jax.__version__.startswith("0.10."):  # a flag that XLA does not know ends the process
    QUICKLY_COMPILED.append("--xla_cpu_use_fusion_emitters=false")
    QUICKLY_COMPILED.append("--xla_cpu_parallel_codegen_split_count=1")  # a worker has one core

os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *QUICKLY_COMPILED])

LARGE_BYTES = 1.5 * 2**30
"""A worker above this gives programs back between modules."""

CACHE_BYTES = 2**30
"""A larger cache is dropped before the tests begin."""

# absl (through optax) closes the stream that was sys.stderr when it was imported as soon as Hydra
# configures logging: that would be pytest's captured output.
absl.logging.get_absl_handler().python_handler.setStream(sys.__stderr__)


def pytest_configure(config: pytest.Config) -> None:
    """One compilation cache for all processes, the workers' and those that tests start.

    Each worker keeps to its own core: XLA's threads of several processes hinder each other.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is None:  # workers inherit it
        kept = getattr(config, "cache", None)
        cache = Path(tempfile.mkdtemp()) if kept is None else kept.mkdir("compiled")
        if sum(path.stat().st_size for path in cache.iterdir()) > CACHE_BYTES:
            shutil.rmtree(cache)
        os.environ["QHRTEM_CACHE"] = os.environ["JAX_COMPILATION_CACHE_DIR"] = str(cache)
    jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    if worker is not None and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


LONG_FIRST = (
    "stages/test_field_counting.py",
    "experiments/test_pipeline.py",
    "experiments/test_safety.py",
    "series/test_series.py",
    "stages/test_imaging.py",
    "io/test_fuzz.py",
    "stages/test_ledges.py",
    "test_api.py",
    "stages/test_stitched.py",
    "stages/test_stitch.py",
    "experiments/test_command_line.py",
    "stages/test_columns.py",
    "stages/test_preparation.py",
    "stages/test_shared_errors.py",
    "engines/test_engines.py",
    "exploration/test_explore.py",
    "exploration/test_networks.py",
    "test_no_deadlock.py",
    "bayesopt/test_surrogate_gpjax.py",
)
"""Files that take more than half a minute, the longest first: a long one begun last runs alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first (xdist's own order, by number of tests, puts these last)."""

    def place(item: pytest.Item) -> int:
        name = item.path.relative_to(Path(__file__).parent).as_posix()
        return LONG_FIRST.index(name) if name in LONG_FIRST else len(LONG_FIRST)

    items.sort(key=place)


@pytest.fixture(autouse=True, scope="module")
def _memory_given_back() -> Iterator[None]:
    """Programs of one module are of little use to the next, and hold gigabytes together."""
    yield
    if psutil.Process().memory_info().rss > LARGE_BYTES:
        jax.clear_caches()
        gc.collect()


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
