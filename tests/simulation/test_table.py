"""Tables that are simulated a block of rows at a time, by whoever computes."""

import dataclasses
import json
import sys
from importlib import resources

import jax.numpy as jnp
import numpy as np
import pytest

from qhrtem_jax.engines import IN_PROCESS
from qhrtem_jax.errors import NonFiniteError
from qhrtem_jax.inputs.identity import fingerprint
from qhrtem_jax.inputs.reader import Reader
from qhrtem_jax.io.journal import Journal
from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.pipeline import run as run_stage
from qhrtem_jax.simulation.run import run
from qhrtem_jax.stages import run_settings
from tests.runs import Quiet, prepared

ROWS = 11
CELL = str(resources.files("qhrtem_jax") / "example/SrTiO3_110.cel")
MODULE = sys.modules[run.__module__]


@dataclasses.dataclass
class Backwards:
    """An engine whose last part is done first."""

    width: int = 2

    def parts(self, *work):
        return reversed(list(IN_PROCESS.parts(*work)))


def settings(tmp_path, **more):
    table = tmp_path / "table.csv"
    c1 = np.linspace(-4.0, 6.0, ROWS)
    table.write_text("C1,thickness\n" + "".join(f"{c:.2f},{4 + k}\n" for k, c in enumerate(c1)))
    content = {
        "stage": "simulate",
        "data": {"roi_shape": [22, 32], "sampling_nm": 0.0177},
        "specimen": {"structure": CELL, "grid": [30, 45], "grid_error": 1e-3},
        "simulate": {"table": str(table), "save_wave": True},
    }
    return run_settings(content | more)


@pytest.mark.parametrize("most", [1, 4, 64])
def test_blocks_in_any_order_make_the_table(tmp_path, monkeypatch, most):
    monkeypatch.setattr(MODULE, "MOST_ROWS", most)
    problem = prepared(settings(tmp_path))
    journal = Journal(RunFolder(tmp_path / "run"), lambda now: None, Backwards())
    found = run(problem, journal)
    vectors = jnp.asarray(problem.vectors, problem.simulator.dtype)
    one_by_one = np.array([problem.simulator.image(v) for v in vectors])
    np.testing.assert_allclose(found.arrays["image"], one_by_one, atol=2e-6)
    assert np.std(np.diff(one_by_one, axis=0)) > 0.01
    waves = np.array([problem.wave_simulator.exit_wave(v) for v in vectors])
    np.testing.assert_allclose(found.arrays["exit_wave"], waves, atol=2e-6)
    assert found.images == found.cost.evaluations == ROWS
    assert found.intensity.mean == pytest.approx(np.mean(one_by_one), abs=1e-6)
    assert found.intensity.min == pytest.approx(np.min(one_by_one), abs=1e-5)
    assert found.intensity.max == pytest.approx(np.max(one_by_one), abs=1e-5)


def test_a_row_that_is_not_finite_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(MODULE, "MOST_ROWS", 4)
    problem = prepared(settings(tmp_path))
    problem.vectors[6, 3] = np.nan
    with pytest.raises(NonFiniteError, match="table row 7 is not finite"):
        run(problem, Journal(RunFolder(tmp_path / "run"), lambda now: None))


def test_other_processes_simulate_the_same(tmp_path):
    results = {}
    for name in ("none", "local"):
        chosen = settings(tmp_path, engine={"name": name, "workers": 2})
        folder = RunFolder(tmp_path / name)
        run_stage(chosen, folder, Quiet())
        results[name] = folder.read_arrays()
        assert json.loads((tmp_path / name / "result.json").read_text())["images"] == ROWS
    for name, array in results["none"].items():
        np.testing.assert_allclose(results["local"][name], array, atol=1e-6)


def test_who_computes_is_no_part_of_what_a_run_is(tmp_path):
    found = [settings(tmp_path, engine={"name": name}) for name in ("none", "local")]
    assert len({fingerprint(s, Reader()) for s in found}) == 1
