# `make demo` and `make test` are all that a fresh machine needs: Python 3.10 or newer, git and make.
PYTHON ?= python3
IMAGE ?= examples/street.jpg
OUT ?= demo
VENV := .venv
BIN := $(VENV)/bin
# A folder of released weight files beside the checkout spares the download.
export ESPNETV2_WEIGHTS ?= $(wildcard ../shared/weights)

.PHONY: demo test lint types check format clean

demo: $(VENV)/.installed
	$(BIN)/espnetv2 predict "$(IMAGE)" --out "$(OUT)"
	@echo "Look at the overlay in the folder $(abspath $(OUT))."

test: lint types check

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check

types: $(VENV)/.installed-dev
	$(BIN)/mypy

check: $(VENV)/.installed-dev
	$(BIN)/pytest

format: $(VENV)/.installed-dev
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

clean:
	rm -rf $(VENV) build dist demo .mypy_cache .pytest_cache .ruff_cache

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed-dev: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@ $(VENV)/.installed
