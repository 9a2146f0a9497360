# Each target makes what it needs first: the virtual environment, with the versions of constraints.txt.
PYTHON ?= python3
MINUTES ?= 10
VENV := .venv
BIN := $(VENV)/bin
# By the environment, so that it also holds for what builds the package.
export PIP_CONSTRAINT := constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help run demo test coverage lint format bench scoreboard chaos vendor clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    run the daemon against simulated venues: no network, no key"
	@echo "make run     run the daemon against Binance, CoinGecko and OKX"
	@echo "make test    run every test, offline"
	@echo "make coverage run every test, and say what none of them reaches"
	@echo "make lint    ruff, mypy"
	@echo "make bench   run every benchmark; peers go into .venv-bench"
	@echo "make chaos   random faults for MINUTES=10: is anything lost without a word?"
	@echo "make scoreboard measure every promise of docs/reliability.md; takes two hours"
	@echo "make vendor  fetch uPlot anew, for the dashboard"
	@echo "make clean   remove the virtual environments and caches"

run: $(VENV)/.run
	@exec $(BIN)/aggregator run $(ARGS)

demo: $(VENV)/.run
	@exec $(BIN)/aggregator demo $(ARGS)

test: $(VENV)/.dev
	@$(BIN)/python -m pytest -n 3 --dist loadfile $(ARGS)

coverage: $(VENV)/.dev
	@$(BIN)/python -m pytest --cov -n 3 --dist loadfile $(ARGS)

lint: $(VENV)/.dev
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

format: $(VENV)/.dev
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

bench: .venv-bench/.done
	@for each in $(filter-out benchmarks/hour.py benchmarks/scoreboard.py,$(wildcard benchmarks/*.py)); do .venv-bench/bin/python $$each || failed="$$failed $$each"; done; \
		test -z "$$failed" || { echo "not reached:$$failed" >&2; exit 1; }

scoreboard: .venv-bench/.done $(VENV)/.dev
	@.venv-bench/bin/python benchmarks/scoreboard.py $(ARGS)

chaos: $(VENV)/.dev
	@CHAOS_SECONDS=$$(($(MINUTES) * 60)) $(BIN)/python -m pytest -q tests/chaos/test_chaos.py --timeout=$$(($(MINUTES) * 60 + 300)) $(ARGS)

UPLOT := 1.6.32
vendor:
	@folder=$$(mktemp -d) && npm pack --silent --pack-destination "$$folder" uplot@$(UPLOT) >/dev/null && \
		tar -xzf "$$folder/uplot-$(UPLOT).tgz" -C "$$folder" && \
		cd "$$folder/package" && cp dist/uPlot.iife.min.js dist/uPlot.min.css LICENSE "$(CURDIR)/aggregator/static/dashboard/vendor/"; \
		code=$$?; rm -rf "$$folder"; exit $$code

clean:
	rm -rf $(VENV) .venv-bench .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage*

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	@echo "making $(VENV) ..."
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "On Debian: apt install python3-venv" >&2; exit 1; }

$(VENV)/.run: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing ..."
	@$(BIN)/pip install -q -e .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing with what the tests need ..."
	@$(BIN)/pip install -q -e '.[dev]'
	@touch $@ $(VENV)/.run

.venv-bench/.done: pyproject.toml constraints.txt
	@$(PYTHON) -m venv .venv-bench
	@.venv-bench/bin/pip install -q -e '.[dev,bench]'
	@npm install --silent --prefix .venv-bench/node ws || echo "left out: Node's ws"
	@touch $@
