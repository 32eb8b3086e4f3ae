# `make run` and `make test` need nothing but Python 3.11 or newer (PYTHON=... names another) and make.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test lint torture bench clean

run: .venv/installed
	$(BIN)/evol run --rounds 4 --seed seeds/alpaca.json

test: .venv/developing
	$(BIN)/pytest

lint: .venv/developing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

torture: .venv/developing
	$(BIN)/pytest -m torture

bench: .venv/developing
	$(BIN)/python -m benchmarks.run_speed
	$(BIN)/python -m benchmarks.run_local

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "evol needs Python 3.11 or newer; name one with: make run PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.venv/developing: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ .venv/installed
