"""What pyproject.toml cannot say: `experiments/` and `configs/`, at the top of the repository, are
installed within the package."""

from setuptools import find_packages, setup

INSIDE = {"qhrtem_jax.experiments": "experiments", "qhrtem_jax.configs": "configs"}

setup(packages=[*find_packages(include=["qhrtem_jax*"]), *INSIDE], package_dir=INSIDE)
