"""GPJax behind the functions of the Gaussian process."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from qhrtem_jax.bayesopt.turbo import SURROGATES, Turbo, TurboOptions
from qhrtem_jax.errors import InputError


@pytest.mark.skipif(find_spec("gpjax") is None, reason="needs the extra `gpjax`")
def test_predicts_and_searches_like_ours():
    subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.bayesopt.gpjax_surrogate"],
        check=True,
        cwd=Path(__file__).parents[2],
        timeout=300,
    )


def test_where_it_is_missing_is_said(monkeypatch):
    assert "gpjax" in SURROGATES
    monkeypatch.setattr("qhrtem_jax.bayesopt.surrogate_gpjax.find_spec", lambda name: None)
    with pytest.raises(InputError, match="GPJax is not installed, expected the extra"):
        Turbo(dimensions=2, batch=2, max_evaluations=8, options=TurboOptions(surrogate="gpjax"))
