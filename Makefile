# Two commands: `make serve` runs the gateway from a fresh clone, `make test` shows that it is right.

VENV := .venv
BIN := $(VENV)/bin

# The first Python of at least 3.11; `make PYTHON=/path/to/python3.12 serve` takes another.
PYTHON ?= $(shell for each in python3.11 python3.12 python3.13 python3.14 python3; do \
	"$$each" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$each"; break; }; done)

INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check

# Tests start a hundred processes: where bytecode is not kept, each compiles everything anew, which takes as long as all else of its start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: serve test check tests bench peers docs lock clean

serve: $(VENV)/.serves
	$(BIN)/signal-gateway serve --config config.toml

# The checks, then the tests; with `make --jobs 2 test` both at once.
test: check tests

# One more than there are cores, four at most: many of the longest wait for processes that they started.
WORKERS ?= $(shell "$(PYTHON)" -c 'import os; print(min(4, (os.cpu_count() or 1) + 1))')
tests: $(VENV)/.tests
	$(BIN)/pytest --numprocesses $(WORKERS) --dist worksteal

check: $(VENV)/.tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports --no-cache

# Everything beside its peers: less than half an hour. `make bench BENCH="--quick heartbeat-1000x1"` runs less.
BENCH ?=
bench: $(VENV)/.tests peers
	$(BIN)/python -m bench $(BENCH)

# What the gateway is measured beside, in an environment of its own. A peer that cannot be installed does not stop the bench: it says so.
PEERS := bench/.peers
peers:
	@$(MAKE) --no-print-directory $(PEERS)/.python || echo "the Python peers are missing" >&2
	@$(MAKE) --no-print-directory $(PEERS)/.node || echo "the peer on Node.js is missing: it needs node and npm" >&2

$(PEERS)/.python: bench/peers/requirements.lock
	@test -n "$(PYTHON)"
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	@touch $@

$(PEERS)/.node: bench/peers/package-lock.json
	@mkdir -p $(PEERS)/node
	@cp bench/peers/package.json bench/peers/package-lock.json bench/peers/.npmrc $(PEERS)/node
	cd $(PEERS)/node && npm ci --silent --no-audit --no-fund
	@touch $@

# config.toml and docs/configuration.md, written anew from the classes that define the settings.
docs: $(VENV)/.tests
	$(BIN)/python -m signal_gateway.config_text config.toml docs/configuration.md

# The locked dependencies, resolved anew (needs uv). No index and no address goes into the files.
# Those of the bench's peers, too: the libraries that we stand on in the versions that we stand on, and of npm no address either.
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	--no-emit-index-url --no-emit-find-links
lock:
	$(LOCK) pyproject.toml --extra dev --output-file requirements-dev.lock
	$(LOCK) pyproject.toml --constraint requirements-dev.lock --output-file requirements.lock
	$(LOCK) bench/peers/requirements.in --constraint requirements.lock --output-file bench/peers/requirements.lock
	cd bench/peers && npm install --package-lock-only --silent

clean:
	rm -rf $(VENV) $(PEERS) bench/.build build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Every dependency by its hash, then this project, as it stands in the folder.
$(VENV)/.serves: requirements.lock pyproject.toml | $(BIN)/python
	$(INSTALL) --require-hashes --requirement requirements.lock
	$(INSTALL) --no-deps --editable .
	@touch $@

$(VENV)/.tests: requirements-dev.lock pyproject.toml | $(BIN)/python
	$(INSTALL) --require-hashes --requirement requirements-dev.lock
	$(INSTALL) --no-deps --editable .
	@touch $@ $(VENV)/.serves

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "there is no Python of 3.11 or newer: install one, or say make PYTHON=/path/to/it" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
