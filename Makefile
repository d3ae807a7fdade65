# Every target builds its own environment in .venv first; nothing is installed by hand.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help test test-all demo docs bench lint examples clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# The stamp lies inside the environment, so deleting .venv deletes it too.
$(READY): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing into .venv (some minutes the first time) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--editable '.[dev]' --constraint constraints.txt
	@touch $@

# One thread a process: two workers on small tensors are faster than one with threads.
test: $(READY) ## the fast tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 -m "not slow"

test-all: $(READY) ## all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2

demo: $(READY) ## learn to balance a pole through a convex program; pictures in out/
	$(BIN)/optlayers demo

docs: $(READY) ## build the documentation into site/
	$(BIN)/mkdocs build --strict

bench: $(READY) ## time the layers against their peers
	$(BIN)/python benchmarks/convex.py
	$(BIN)/python benchmarks/root.py
	$(BIN)/python benchmarks/ode.py
	$(BIN)/python benchmarks/minimize.py
	$(BIN)/python benchmarks/profile_layer.py

lint: $(READY) ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

examples: $(READY) ## run every example
	@set -e; for file in examples/*.py; do echo "== $$file"; $(BIN)/python $$file; done

clean: ## remove what the targets made, the environment included
	rm -rf .venv out site dist
