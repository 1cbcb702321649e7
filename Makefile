# Everything is set up by the targets themselves, in .venv.

PYTHON ?= python3
BIN := .venv/bin
PARTS := hw golden sim tb fpga

.DEFAULT_GOAL := help
.PHONY: help run test check icarus boards clean

help:
	@echo "make run    a story out of the simulated chip"
	@echo "make test   lint, types, and all tests"
	@echo "make check  lint and types alone"
	@echo "make boards bitstreams for every board (hours), and the README's table of them"
	@echo "make clean  forget .venv and build"

# The package map is in pyproject.toml; an installation lasts until that changes.
.venv/run: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or later is needed: make PYTHON=python3.11"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable .
	@touch $@

.venv/dev: .venv/run
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@

# What pyright needs to see intaglio.hw in hw/.
build/typing/intaglio:
	@mkdir -p $@
	@for part in $(PARTS); do ln -sfn ../../../$$part $@/$$part; done

run: .venv/run
	$(BIN)/intaglio run

check: .venv/dev build/typing/intaglio
	$(BIN)/ruff check $(PARTS)
	$(BIN)/ruff format --check $(PARTS)
	$(BIN)/pyright --pythonpath $(BIN)/python

# What is not on PyPI. Without it half of the benches are skipped and reported as such.
icarus:
	@command -v iverilog > /dev/null || \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
	    export DEBIAN_FRONTEND=noninteractive; \
	    apt-get update --quiet --quiet && \
	      apt-get install --quiet --quiet --yes iverilog; \
	  fi || true
	@command -v iverilog > /dev/null || \
	  echo "Icarus is missing, so half of the benches are skipped: sudo apt-get install iverilog"

test: check icarus
	$(BIN)/pytest --numprocesses 2 --dist loadgroup --no-loadscope-reorder

boards: .venv/dev
	$(BIN)/python -m intaglio.fpga.results $(BOARD)

clean:
	rm -rf .venv build
