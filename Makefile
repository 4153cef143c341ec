# Two commands for a newcomer: make demo, make test. Both create .venv and install what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test test-spark install lint bench bench-calibration format clean
.DEFAULT_GOAL := help

help:
	@echo "make demo     a year of real flights, end to end"
	@echo "make test     all tests but Spark's"
	@echo "make test-spark  the engine tests on Spark: local, a cluster, Connect; needs Java"
	@echo "make install  the environment with every extra but spark"
	@echo "make lint     ruff, mypy, import-linter"
	@echo "make bench    benchmarks, as ratios in one run"
	@echo "make bench-calibration  false alarms and detection on streams with known truth"

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -c constraints.txt -e '.[demo,evidently]'
	@touch $@

$(VENV)/.install: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -c constraints.txt -e '.[evidently,sql,delta,apprise,demo,dev]'
	@touch $@ $(VENV)/.demo

install: $(VENV)/.install

demo: $(VENV)/.demo
	$(BIN)/driftd demo $(ARGS)

test: $(VENV)/.install
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not spark" $(ARGS)

$(VENV)/.spark: $(VENV)/.install
	$(PIP) -c constraints.txt -e '.[spark]'
	@touch $@

test-spark: $(VENV)/.spark
	$(BIN)/python -m pytest tests/engines -m spark $(ARGS)

lint: $(VENV)/.install
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.install
	$(BIN)/python -m tests.benchmarks $(ARGS)

bench-calibration: $(VENV)/.install
	OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.calibration $(ARGS)

format: $(VENV)/.install
	$(BIN)/ruff check --fix-only .

clean:
	rm -rf $(VENV) demo build dist
