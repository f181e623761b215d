# Two commands do all the set-up they need: `make demo` and `make test`.
#   make test ARGS="-k octree"           passes arguments on (also demo, bench)
#   make setup PYTHON=/path/to/python3.11    chooses the interpreter

SHELL := /bin/bash
PYTHON ?=
ARGS ?=
VENV := .venv
READY := $(VENV)/.ready
READY_DEV := $(VENV)/.ready-dev
export PYTHON
# What .venv holds is what is tested, also in a shell where ROS or another environment was sourced.
unexport PYTHONPATH
unexport PYTHONHOME

.PHONY: help setup demo test test-slow lint format bench clean
.DEFAULT_GOAL := help

help: ## say what there is
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /\1\t/' | while IFS=$$'\t' read -r verb line; do \
		printf '  make %-10s %s\n' "$$verb" "$$line"; done

$(READY): setup.py constraints.txt .ci/setup
	@bash .ci/setup sim,rl
	@touch $@

$(READY_DEV): $(READY)
	@bash .ci/setup sim,rl,viz,mcp,data,graph,dev
	@touch $@

setup: $(READY_DEV) ## make .venv and install everything into it

demo: $(READY) ## train, search a house, log, replay and ask; the results are in runs/demo
	@$(VENV)/bin/embodied-mem demo $(ARGS)

test: $(READY_DEV) ## run the tests
	@$(VENV)/bin/python -m pytest -m "not slow" $(ARGS)

test-slow: $(READY_DEV) ## run the tests, the longer ones too, on many random examples
	@HYPOTHESIS_PROFILE=random $(VENV)/bin/python -m pytest $(ARGS)

lint: $(READY_DEV) ## check style and types
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy

format: $(READY_DEV) ## put the code in the project's format
	@$(VENV)/bin/ruff format .
	@$(VENV)/bin/ruff check --fix .

bench: $(READY) ## measure the loop, part by part
	@$(VENV)/bin/embodied-mem bench loop $(ARGS)

clean: ## remove .venv and what was built; runs/ stays
	@rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
