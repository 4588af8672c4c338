# Hooks and CI call these same targets.
SHELL := /bin/sh
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# Where it is set, each of the many processes that tests start compiles all of the service anew.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
RUN_STAMP := $(VENV)/.run-stamp
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
CODE := service demo tests $(wildcard bench)
LOCKS := requirements/build.txt requirements/runtime.txt requirements/dev.txt
NODE := $(addprefix tests/e2e/,accessibility httpyac openapi-lint typescript)
NODE_STAMPS := $(NODE:%=%/node_modules/.stamp)
UPGRADE ?= --upgrade
COMPILE := $(BIN)/uv pip compile --quiet --no-config --system-certs --universal --python-version 3.11 --generate-hashes --no-sources --custom-compile-command "make lock" $(UPGRADE)

.PHONY: help setup run check format lint types layers licences spec unit test test-packages e2e soak bench lock openapi clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z][a-z0-9-]*:.*## / { printf "%-14s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## virtual environment with the locked dependencies and registry-admin

$(BIN)/python:
	PYTHON=$(PYTHON) scripts/system-packages setup
	$(PYTHON) -m venv $(VENV)

# What the service needs and no more: who wants to see it need not wait for what its tests use.
$(RUN_STAMP): $(filter-out %/dev.txt,$(LOCKS)) pyproject.toml service/__init__.py | $(BIN)/python
	$(PIP_INSTALL) --require-hashes $(patsubst %,--requirement %,$(filter %.txt,$^))
	$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	touch $@

$(STAMP): $(LOCKS) pyproject.toml service/__init__.py | $(BIN)/python
	$(PIP_INSTALL) --require-hashes --requirement requirements/dev.txt
	$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	touch $@

run: $(RUN_STAMP) ## the API on 127.0.0.1, with a demonstration registry when none is configured
	@PYTHON=$(PYTHON) scripts/system-packages run
	@exec $(BIN)/python -m demo

check: setup ## format, lint, types, layers, licences, document drift, unit and contract tests
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target unit lint types layers licences spec

format: setup ## rewrite the code as `check` wants it
	$(BIN)/ruff format $(CODE) docs
	$(BIN)/ruff check --fix $(CODE) docs

lint: setup
	$(BIN)/ruff format --check $(CODE) docs
	$(BIN)/ruff check $(CODE) docs

types: setup
	$(BIN)/mypy $(CODE)

layers: setup
	$(BIN)/lint-imports

# Those of all that is installed: what is shipped, and what the tests use.
licences: setup
	$(BIN)/pip-licenses --format=csv >/dev/null

spec: setup
	test ! -e openapi/openapi.json || $(BIN)/registry-admin openapi --check

unit: setup
	$(BIN)/pytest tests --ignore=tests/e2e -n 2 --dist worksteal

test: ## everything: what `check` does, and the end-to-end tests
	@$(MAKE) --no-print-directory --jobs=2 test-packages setup
	@$(MAKE) --no-print-directory check
	@$(MAKE) --no-print-directory e2e

test-packages: | $(BIN)/python
	@PYTHON=$(PYTHON) scripts/system-packages test

e2e: setup $(NODE_STAMPS)
	$(BIN)/pytest tests/e2e -n 3 --dist loadfile --no-loadscope-reorder --durations=40

$(NODE_STAMPS): %/node_modules/.stamp: %/package-lock.json %/package.json
	npm ci --prefix $* --ignore-scripts --no-audit --no-fund
	touch $@

soak: test-packages setup ## the long tests
	$(BIN)/pytest tests -m soak

bench: test-packages setup ## the speed comparison
	$(BIN)/python -m bench

lock: setup ## resolve the locked requirements anew (UPGRADE= keeps the versions that still fit)
	$(COMPILE) --group build --output-file requirements/build.txt
	$(COMPILE) pyproject.toml --output-file requirements/runtime.txt
	$(COMPILE) pyproject.toml --extra otel --group dev --group build --constraint requirements/runtime.txt --output-file requirements/dev.txt

openapi: setup ## write the OpenAPI document anew, and what is made of it
	$(BIN)/registry-admin openapi > openapi/openapi.json
	$(BIN)/registry-admin openapi --as http > openapi/registry-admin.http
	$(BIN)/registry-admin openapi --as markdown > docs/reference.md

clean: ## remove what the other targets made
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache $(NODE:%=%/node_modules)
