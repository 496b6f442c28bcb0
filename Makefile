# The two commands that a newcomer needs are `make demo` and `make test`; each sets up .venv itself.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
RUN_DIR ?= runs/demo
SECONDS ?= 600
SEED ?= 0

# Packages are compiled as they are first imported, and once: where Python is told to write no
# bytecode, each of the tests' processes would compile JAX again (31 s instead of 6).
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test newest check lint docs notebooks fuzz bench clean

$(VENV)/.ready: pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --no-compile --constraint requirements.lock --editable '.[dev]'
	touch $@

demo: $(VENV)/.ready  ## run the imaging stage on the embedded example
	$(BIN)/python -m experiments.run +stage=imaging overwrite=true hydra.run.dir=$(RUN_DIR)

test: $(VENV)/.ready  ## pass the tests
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

check: $(VENV)/.ready  ## what CI runs
	$(MAKE) --jobs 3 --output-sync lint docs newest
	$(MAKE) test

# A short part of the tests with today's releases on the newest Python that the machine has.
NEWEST_PYTHON := $(shell .ci/newest_python)
NEWEST := .venv-newest
SHORT := tests/bayesopt/test_positive_definite.py tests/io/test_run_folder.py

newest:
ifeq ($(NEWEST_PYTHON),)
	@echo "no Python above 3.11 here: the tests on it are left out"
else
	test -d $(NEWEST) || $(NEWEST_PYTHON) -m venv $(NEWEST)
	$(NEWEST)/bin/python -m pip install --quiet --no-compile --editable '.[test]'
	$(NEWEST)/bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(SHORT)
endif

fuzz: $(VENV)/.ready  ## damaged input for every reader; `make fuzz SECONDS=60 SEED=1`
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS) --seed $(SEED)

bench: $(VENV)/.ready  ## benchmarks beside their peers; needs `pip install -e '.[bench]'` for all of them
	$(BIN)/python -m benchmarks.run_all

DOCS := $(BIN)/python -m sphinx -q -W --keep-going -b html

docs: $(VENV)/.ready  ## the documentation's site, in build/docs; warnings are errors
	$(DOCS) docs build/docs

notebooks: $(VENV)/.ready  ## the same, with the notebooks run: some minutes
	$(DOCS) -D nb_execution_mode=force docs build/docs

clean:
	rm -rf $(VENV) $(NEWEST) build *.egg-info .pytest_cache .ruff_cache
