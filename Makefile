# `make demo` and `make test` are all that a fresh machine needs: Python 3.10 or newer, git and make.
PYTHON ?= python3
IMAGE ?= examples/street.jpg
OUT ?= demo
VENV := .venv
BIN := $(VENV)/bin
WEB := docs/web
# A folder of released weight files beside the checkout spares the download.
export ESPNETV2_WEIGHTS ?= $(wildcard ../shared/weights)

.PHONY: demo test test-executorch test-litert lint types check format web test-web clean

demo: $(VENV)/.installed
	$(BIN)/espnetv2 predict "$(IMAGE)" --out "$(OUT)"
	@echo "Look at the overlay in the folder $(abspath $(OUT))."

test: lint types check

# Formats whose packages are large or keep others from being installed have environments of their own. What these bring may have
# plugins for pytest, which nothing here needs and whose warnings would be errors.
test-executorch test-litert: test-%: .venv-%/.installed
	.venv-$*/bin/python -m pytest -p no:anyio tests/exporting/test_$*.py

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

# The page that runs in a browser, in $(WEB)/dist; needs Node.js 20 or newer.
web: $(WEB)/dist/model.onnx $(WEB)/node_modules/.installed
	npm --prefix $(WEB) run --silent build

# Needs Chromium besides.
test-web: web
	npm --prefix $(WEB) run --silent check
	PYTHON="$(abspath $(BIN)/python)" npm --prefix $(WEB) run --silent test

clean:
	rm -rf $(VENV) .venv-* build dist demo .mypy_cache .pytest_cache .ruff_cache $(WEB)/dist $(WEB)/node_modules

$(WEB)/dist/model.onnx: $(VENV)/.installed-dev src/espnetv2/weights/bundled/espnetv2_seg_s0_5.cityscapes_256.safetensors
	mkdir -p $(@D)
	$(BIN)/espnetv2 export espnetv2_seg_s0_5.cityscapes_256 --format onnx --size 512x256 --output classes --input uint8 --out $@

$(WEB)/node_modules/.installed: $(WEB)/package-lock.json
	npm --prefix $(WEB) ci
	touch $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed-dev: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@ $(VENV)/.installed

.venv-%/.installed: pyproject.toml
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install --quiet --editable ".[$*]" pytest pytest-xdist
	touch $@
