PYTHON ?= .venv/bin/python

.PHONY: install lint format quick test

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
