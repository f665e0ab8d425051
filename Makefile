PYTHON ?= .venv/bin/python

.PHONY: install lint format quick test docs drawn_hands pretrained benchmark

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

docs:               ## the pages of docs/ as a site, in site/
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict

data/drawn/dataset.json:
	$(PYTHON) -m data_prep.synthetic --count 600 --seed 1000 --shape 1050 750 --out data/drawn

drawn_hands: data/drawn/dataset.json  ## the weights of --init drawn_hands, in runs/drawn_hands
	$(PYTHON) -m kerasland train --data data/drawn --out runs/drawn_hands --resume \
	  --set epochs=8 warmup_epochs=0.5 validation_images=0 precision=auto

DATA ?= data/hand_atlas
COMMON = sigma_px=3 precision=auto validation_images=0
FINE = $(COMMON) image_shape=640x480 elastic_px=5 rotation_deg=12 scale=0.12 shift=0.05 shape_prior=true
pretrained: data/drawn/dataset.json  ## the shipped model, its estimate and calibration, in runs/hand_atlas
	$(PYTHON) -m kerasland train --data data/drawn --out runs/drawn --resume \
	  --set $(COMMON) stem_stride=2 output_stride=2 epochs=6 warmup_epochs=0.5
	$(PYTHON) -m kerasland crossvalidate --data $(DATA) --init runs/drawn --final \
	  --out runs/hand_atlas --set $(FINE) epochs=30

benchmark:          ## all ratios of benchmarks/results; DATA is the prepared hand atlas
	for name in start onednn step_profile spatial_term input_pipeline preparation predict_folder inference \
	  gpu; do \
	  $(PYTHON) -m benchmarks.$$name || exit 1; done
	$(PYTHON) -m benchmarks.runtimes --data $(DATA)
	$(PYTHON) -m benchmarks.cost_of_result --data $(DATA)
