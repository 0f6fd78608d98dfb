# Two commands from a bare machine: `make run` and `make test`. Both make .venv first if needed.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test test-slow lab lint types clean

run: .venv/run.stamp
	$(BIN)/autoresearch-tui $(ARGS)

test: lint types
	$(BIN)/pytest -n 3 --dist loadfile

test-slow: .venv/dev.stamp
	$(BIN)/pytest -n 2 --dist loadfile -m slow --timeout 3600

# The GPU profiles through a GPU's compiler, without a GPU: torch's CUDA wheel in an environment of its own.
LAB ?= $(HOME)/.cache/autoresearch-tui-lab
lab: .venv/dev.stamp $(LAB)/ready.stamp
	AUTORESEARCH_LAB=$(LAB)/bin/python $(BIN)/pytest -m '' tests/lab
	$(LAB)/bin/python -m tests.lab.report

$(LAB)/ready.stamp: pyproject.toml
	$(PYTHON) -m venv $(LAB)
	$(LAB)/bin/pip install --quiet --disable-pip-version-check --find-links= .
	$(LAB)/bin/python -c 'import sys, torch; sys.exit(not torch.version.cuda and "this torch is a CPU build: install the CUDA build in $(LAB)")'
	@touch $@

lint: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/dev.stamp
	$(BIN)/mypy

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/run.stamp: pyproject.toml | .venv/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -e .
	@touch $@

.venv/dev.stamp: pyproject.toml | .venv/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch .venv/run.stamp $@
