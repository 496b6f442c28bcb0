"""The package as users install it: a wheel, built from the source distribution, in an environment
where the repository is not."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, cwd=folder)
    (found,) = folder.glob("*.whl")
    assert list(folder.glob("*.tar.gz"))  # a wheel is built from what the sdist holds
    return found


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """A new environment with the wheel, and with what the tests' own has installed but for the
    package: `.pth` files of a folder that is added do not count, so an editable one is not seen."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    bin_ = folder / "bin"
    install = [str(bin_ / "python"), "-m", "pip", "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    (own,) = folder.glob("lib/python*/site-packages")
    (own / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return bin_


def test_configurations_are_in_it_and_nothing_lands_beside_the_package(wheel):
    with zipfile.ZipFile(wheel) as content:
        names = content.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"qhrtem_jax"}
    configs = {str(p.relative_to(ROOT)) for p in (ROOT / "configs").rglob("*.yaml")}
    assert {n.removeprefix("qhrtem_jax/") for n in names if n.endswith(".yaml")} == configs
    assert not [name for name in names if "tests" in name or "benchmarks" in name]


def test_all_that_is_imported_is_asked_for():
    """Third-party modules of the package, but for those of extras, are requirements of it."""
    import ast

    extras = {
        "gpjax",
        "rsciio",
        "ase",
        "xarray",
        "hyperspy",
        "dask",
        "distributed",
        "flax",
        "sklearn",
    }
    modules = set()
    for path in [*(ROOT / "qhrtem_jax").rglob("*.py"), *(ROOT / "experiments").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules.add((node.module or "").split(".")[0])
    modules -= sys.stdlib_module_names | {"qhrtem_jax"} | extras
    wanted = {
        requirement.split(";")[0].strip().lower()
        for requirement in importlib.metadata.requires("qhrtem_jax") or ()
        if "extra ==" not in requirement
    }
    wanted = {re.match(r"[\w.-]+", w)[0].replace("_", "-") for w in wanted}  # type: ignore[index]
    by_module = importlib.metadata.packages_distributions()
    for module in sorted(modules):
        names = {n.lower().replace("_", "-") for n in by_module.get(module, [module])}
        assert names & wanted, module


def test_the_command_runs_the_example_from_another_folder(environment, tmp_path):
    quiet = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    known = {"capture_output": True, "text": True, "cwd": tmp_path, "env": quiet}
    place = [str(environment / "python"), "-c", "import qhrtem_jax; print(qhrtem_jax.__file__)"]
    where = subprocess.run(place, check=True, **known)
    assert Path(where.stdout.strip()).is_relative_to(environment.parent)
    command = [str(environment / "qhrtem")]
    options = ["imaging", "optimizer=lm", "optimizer.starts=1", "optimizer.max_iterations=3"]
    done = subprocess.run([*command, *options, "hydra.run.dir=run"], check=False, **known)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run/result.json").read_text())["stage"] == "imaging"
    assert (tmp_path / "run/report.html").is_file()
    refused = subprocess.run([*command, "stich"], check=False, **known)
    assert refused.returncode == 2
    assert refused.stderr.strip().endswith("did you mean stitch?")
