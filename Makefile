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
	$(PYTHON) -m data_prep.synthetic --count 2400 --seed 1000 --shape 1050 750 --out data/drawn

drawn_hands: data/drawn/dataset.json  ## the weights of --init drawn_hands, in runs/drawn_hands
	$(PYTHON) -m kerasland train --data data/drawn --out runs/drawn_hands --resume \
	  --set epochs=8 batch_size=4 sigma_px=4 warmup_epochs=0.2 validation_images=0 precision=auto

DATA ?= data/hand_atlas
pretrained:         ## the shipped model, its estimate and calibration, in runs/hand_atlas
	$(PYTHON) -m kerasland crossvalidate --data $(DATA) --init drawn_hands --final --out runs/hand_atlas \
	  --set image_shape=896x704 sigma_px=3 elastic_px=7 decode_radius_px=11 rotation_deg=12 scale=0.12 shift=0.05 \
	  wide_fraction=0.2 epochs=32 shape_prior=true precision=auto validation_images=0

benchmark:          ## all ratios of benchmarks/results; DATA is the prepared hand atlas
	for name in start onednn step_profile spatial_term input_pipeline preparation predict_folder inference \
	  same_network gpu; do \
	  $(PYTHON) -m benchmarks.$$name || exit 1; done
	$(PYTHON) -m benchmarks.runtimes --data $(DATA)
	$(PYTHON) -m benchmarks.cost_of_result --data $(DATA)
