# Two commands: `make demo` runs it, `make test` tests it. Both set themselves up in .venv.
PYTHON ?= python3
# Tests at a time. Most of them wait for other processes: this many keep two CPUs busy.
WORKERS ?= 4
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint unit torture bench fuzz schema clean

demo: $(VENV)/.demo
	@$(BIN)/sensor-gateway demo

test: lint unit

lint: $(VENV)/.dev
	$(BIN)/ruff check gateway adapters tests bench examples
	$(BIN)/ruff format --check gateway adapters tests bench examples
	$(BIN)/mypy
	$(BIN)/lint-imports

AGAIN = || { [ $$? = 1 ] && $(BIN)/python -m tests.again; }

unit: $(VENV)/.dev
	$(BIN)/python -m pytest -m 'not alone' -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(AGAIN)
	$(BIN)/python -m pytest -m alone $(AGAIN)

# A quarter of an hour: `make torture SEED=7` does again what that seed does.
torture: $(VENV)/.demo
	@$(BIN)/sensor-gateway selftest --kills 1000 --faults 300 $(if $(SEED),--seed $(SEED))

bench: $(VENV)/.dev
	$(BIN)/python -m bench

fuzz: $(VENV)/.dev
	$(BIN)/python -m tests.mqtt.fuzz

schema: $(VENV)/.dev
	$(BIN)/sensor-gateway schema > config/gateway.schema.json

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "sensor-gateway needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Set PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "Python's venv module is missing. Type: sudo apt-get install python3-venv"; exit 1; }

$(VENV)/.demo: pyproject.toml $(VENV)/bin/python
	@echo "Setting up .venv (once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/bin/python
	@echo "Setting up .venv for tests (once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[demo,proxy,dev]'
	@touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
