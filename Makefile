# What a newcomer would type: make demo, make test, make lint, make format, make clean.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# The package index serves Linux users a CUDA build of torch, several gigabytes. This second index holds
# CPU builds of the same release, and pip prefers them; where it cannot be reached, pip goes on without.
# For a CUDA build: make demo PYTORCH_INDEX=
PYTORCH_INDEX ?= https://download.pytorch.org/whl/cpu
TORCH := $(shell grep '^torch==' requirements/tested.txt)
INSTALL := $(BIN)/python -m pip install --quiet -c requirements/tested.txt

BUNDLE := out/bundle
CHECKPOINT := models/climate-claims-minilm-l6

.PHONY: demo test lint format clean

demo: $(VENV)/.demo
	$(BIN)/pairscore export $(CHECKPOINT) $(BUNDLE) --overwrite
	$(BIN)/pairscore score $(BUNDLE) examples/claims.parquet --output out/scored.parquet --overwrite
	$(BIN)/python examples/show.py out/scored.parquet
	$(BIN)/pairscore verify $(BUNDLE) --reference $(CHECKPOINT) --pairs examples/claims.parquet

test: $(VENV)/.test
	$(BIN)/python -m pytest

lint: $(VENV)/.test
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/pyright

format: $(VENV)/.test
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

clean:
	rm -rf out build dist $(VENV)

$(VENV)/.torch: requirements/tested.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --retries 1 $(TORCH) $(if $(PYTORCH_INDEX),--extra-index-url $(PYTORCH_INDEX))
	touch $@

$(VENV)/.demo: $(VENV)/.torch pyproject.toml
	$(INSTALL) -e '.[cpu,export]'
	touch $@

$(VENV)/.test: $(VENV)/.torch pyproject.toml
	$(INSTALL) -e '.[cpu,export,train,dev]'
	touch $@ $(VENV)/.demo
