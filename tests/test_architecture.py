"""Rules of the house that no linter knows."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "qhrtem_jax"
MODULES = sorted(PACKAGE.rglob("*.py"))
MAY_IMPORT = {
    "errors": set(),
    "physics": {"errors"},
    "bayesopt": {"errors"},
    "matching": {"errors", "physics"},
    "io": {"errors", "physics"},
    "refine": {"errors", "physics", "matching"},
    "stages": {"errors", "physics", "bayesopt", "matching", "io", "refine"},
    "reporting": {"errors", "physics", "matching", "io", "stages"},
}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name in imports(path):
        assert not name.startswith(("hydra", "omegaconf")), name
        if room in MAY_IMPORT and name.startswith("qhrtem_jax."):
            other = name.split(".")[1]
            assert other == room or other in MAY_IMPORT[room], f"{room} must not import {other}"


def test_modules_are_read_in_one_sitting():
    paths = [
        p
        for folder in ("qhrtem_jax", "experiments", "benchmarks")
        for p in (ROOT / folder).rglob("*.py")
    ]
    long = {str(p): n for p in paths if (n := len(p.read_text().splitlines())) > 450}
    assert not long
