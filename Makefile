# Everything happens in a virtual environment in .venv; nothing outside this folder is changed,
# but for a browser that `make test` installs where it can and where none is found.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8501
DATA ?=

.PHONY: app test check screenshots results results-quick clean

app: $(VENV)/installed
	$(BIN)/shpeft ui --port $(PORT)

test: $(VENV)/installed-dev
	$(BIN)/python tools/browser.py
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: $(VENV)/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy shpeft

screenshots: $(VENV)/installed-dev
	$(BIN)/python tools/screenshots.py

results: $(VENV)/installed-compare
	@test -n "$(DATA)" || { echo "Say where the folders 'data' and 'backbones' of results/compare.yaml are: make results DATA=FOLDER"; exit 1; }
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
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/installed

$(VENV)/installed-compare: $(VENV)/installed
	$(BIN)/pip install --quiet --editable '.[compare]'
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache
