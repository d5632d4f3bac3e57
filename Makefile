# Everything is installed into .venv; nothing outside this folder changes, except that `make
# test-browser` installs a browser where none is found and the system allows it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8501
DATA ?=
PROCESSES ?= 2
IN_PARALLEL = -n $(PROCESSES) --dist loadfile --no-loadscope-reorder
LOWER := .venv-lower-bounds
# What runs against the oldest allowed versions: the tests that reach into the libraries, without the slow pages.
LOWER_TESTS := tests/backbones tests/config tests/delta tests/evaluation tests/figures tests/forward tests/images \
	tests/importance tests/reports tests/selection tests/support tests/test_diagnosis.py tests/test_equations.py \
	tests/test_linear_probe.py
# Pillow before 13 refuses TIFF files in YCbCr; shpeft then lists the file as damaged. plotly 6.5 shows a name that holds
# `&lt;` with `<` in its stead; it obeys neither. GDCM 3.0.24 survives the file that ends later ones.
LOWER_SKIPS := --deselect 'tests/images/test_images.py::test_modes_and_formats_become_rgb[YCbCr-TIFF-6]' \
	--deselect tests/figures/test_names_are_text.py::test_plotly_shows_the_name_as_it_is \
	--deselect tests/images/test_decoder_process.py::test_a_file_that_ends_gdcm_ends_the_child_alone

.PHONY: app test test-browser test-slow test-all check docs test-lower-bounds reliability screenshots results results-quick clean

app: $(VENV)/installed
	$(BIN)/shpeft ui --port $(PORT)

# Three processes for two processors: many tests wait for children.
test: PROCESSES = 3
test: $(VENV)/installed-dev
	$(BIN)/python -m pytest $(IN_PARALLEL) -m "not slow and not browser"

# The app in a real browser. The summary names what passed at its second run only.
test-browser: $(VENV)/installed-dev
	$(BIN)/python tools/browser.py
	$(BIN)/python -m pytest $(IN_PARALLEL) -rR -m "browser and not slow"

# Benchmarks at their smallest size, compilers, processes that are killed or share work, simulated draws.
test-slow: $(VENV)/installed-dev
	$(BIN)/python -m pytest $(IN_PARALLEL) -m slow

test-all: test test-browser test-slow

check: $(VENV)/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(VENV)/installed-dev
	$(BIN)/python -m sphinx -W --keep-going -b html -d docs/_build/doctrees docs docs/_build/html
	@echo "Open docs/_build/html/index.html"

reliability: $(VENV)/installed-dev
	$(BIN)/python tools/browser.py
	$(BIN)/pip install --quiet --group fuzz
	RELIABILITY=full OMP_NUM_THREADS=1 $(BIN)/python -m pytest -p no:cacheprovider tests/reliability

test-lower-bounds: $(LOWER)/installed
	$(LOWER)/bin/python -m pytest $(IN_PARALLEL) -m "not browser" $(LOWER_TESTS) $(LOWER_SKIPS)

screenshots: $(VENV)/installed-dev
	$(BIN)/python tools/screenshots.py

results: $(VENV)/installed-compare
	@test -n "$(DATA)" || { echo "Name the folder that holds 'data' and 'backbones' of results/compare.yaml: make results DATA=FOLDER"; exit 1; }
	$(BIN)/shpeft compare results/compare.yaml --data-root "$(DATA)"
	$(BIN)/shpeft compare overlaps results/compare.yaml --data-root "$(DATA)"
	$(BIN)/shpeft compare report results/compare.yaml --to results
	$(BIN)/shpeft compare results/budgets.yaml --data-root "$(DATA)" --reuse results/compare
	$(BIN)/shpeft compare report results/budgets.yaml --to results/budgets
	$(BIN)/shpeft compare results/sparsity.yaml --data-root "$(DATA)" --reuse results/compare
	$(BIN)/shpeft compare report results/sparsity.yaml --to results/sparsity
	$(BIN)/shpeft compare results/variants.yaml --data-root "$(DATA)"
	$(BIN)/shpeft compare report results/variants.yaml --to results/variants
	$(BIN)/shpeft compare results/longer.yaml --data-root "$(DATA)" --reuse results/compare
	$(BIN)/shpeft compare report results/longer.yaml --to results/longer
	$(BIN)/shpeft compare results/embedded.yaml --data-root "$(DATA)"
	$(BIN)/shpeft compare report results/embedded.yaml --to results/embedded

results-quick: $(VENV)/installed-compare
	$(BIN)/shpeft compare results/quick.yaml
	$(BIN)/shpeft compare overlaps results/quick.yaml
	$(BIN)/shpeft compare report results/quick.yaml

$(VENV)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "shpeft needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	@touch $@

$(VENV)/installed: $(VENV)/python pyproject.toml
	$(BIN)/pip install --quiet --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/python pyproject.toml
	$(BIN)/pip install --quiet --editable '.[dicom,pdf]' --group dev
	@touch $@ $(VENV)/installed

$(VENV)/installed-compare: $(VENV)/installed
	$(BIN)/pip install --quiet --editable '.[compare]'
	@touch $@

$(LOWER)/installed: pyproject.toml tools/lower_bounds.py
	$(PYTHON) -m venv --clear $(LOWER)
	$(LOWER)/bin/pip install --quiet --upgrade pip
	$(LOWER)/bin/python tools/lower_bounds.py > $(LOWER)/constraints.txt
	$(LOWER)/bin/pip install --quiet --constraint $(LOWER)/constraints.txt --editable '.[dicom,pdf]' --group test
	@touch $@

clean:
	rm -rf $(VENV) $(LOWER) docs/_build .mypy_cache .pytest_cache .ruff_cache
