PYTHON ?= .venv/bin/python

.PHONY: install lint format quick test benchmark

install:            ## a virtual environment with everything needed to work on kerasland
	python3 -m venv .venv && .venv/bin/pip install -q -e ".[dev]"

lint:
	$(PYTHON) -m ruff check . && $(PYTHON) -m ruff format --check .

format:
	$(PYTHON) -m ruff check --fix . && $(PYTHON) -m ruff format .

quick:              ## the tests that take seconds
	$(PYTHON) -m pytest -q -m "not slow"

test:               ## all tests
	$(PYTHON) -m pytest

DATA ?= data/hand_atlas
benchmark:          ## all ratios of benchmarks/results; DATA is the prepared hand atlas
	for name in start step_profile spatial_term input_pipeline preparation predict_folder inference gpu; do \
	  $(PYTHON) -m benchmarks.$$name || exit 1; done
	$(PYTHON) -m benchmarks.cost_of_result --data $(DATA)
