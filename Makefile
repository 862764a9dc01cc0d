# The whole developer interface. `make run` and `make test` work on a fresh machine with Python 3.11+.
# Of one version the system's first, if it can make environments: distributions build theirs with
# optimization, and the tests take a sixth less CPU than with one that is built without.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do \
	/usr/bin/$$p -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo /usr/bin/$$p && break; \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
DATA ?= vicinal-data
BENCH ?= # names of benchmarks, and --quick
MODEL := @hf/sentence-transformers/all-minilm-l6-v2
STAMP := $(VENV)/.installed
C_FILES := $(wildcard src/vicinal/native/*.[ch])
TYPESCRIPT := 5.9.3
P ?= # what `make unit` runs, under tests/unit
QUICK := -m 'not slow and not clients'
# Two more than there are cores, as a process of tests waits half of its time: for processes, disks
# and deadlines.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(min((os.cpu_count() or 1) + 2, 4))')
# The order of files is that of tests/conftest.py: the longest first, so that none is last. A process
# that is lost is not replaced: another would run the test that ended it again, for ever.
PARALLEL := -n $(WORKERS) --dist loadfile --no-loadscope-reorder --max-worker-restart 0
UNBOUND := -o timeout=0 -o faulthandler_timeout=0

# What is imported is compiled once, and not by every process of every test; pip would compile all,
# of which most is never imported.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test unit long test-clients check lint format types wheel bench crash fuzz clean

$(STAMP): pyproject.toml hatch_build.py $(C_FILES)
	@test -n "$(PYTHON)" || { echo "Vicinal needs Python 3.11 or newer on the PATH"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --editable . --group dev
	@touch $@

run: $(STAMP) ## set up, then serve with a real embedding model and show a real query's answer
	$(BIN)/vicinal model pull $(MODEL)
	$(BIN)/vicinal serve --data $(DATA) --demo

test: $(STAMP) ## set up, then run the tests
	$(BIN)/vicinal model pull $(MODEL)
	$(BIN)/python -m pytest $(QUICK) $(PARALLEL)

unit: $(STAMP) ## the tests of a package or a file, in seconds: P=engine, P=wire/test_codes.py; fetches no model
	PULL_NO_MODELS=1 $(BIN)/python -m pytest -q $(QUICK) $(if $(filter %.py,$(P)),,$(PARALLEL)) tests/unit/$(P)

long: $(STAMP) ## the longer runs of what `make test` does briefly, with other random examples each time
	$(BIN)/vicinal model pull $(MODEL)
	$(BIN)/python -m pytest -m slow --hypothesis-profile=exploring $(UNBOUND)

test-clients: $(STAMP) ## every way that Workers and libraries reach the server
	$(BIN)/vicinal model pull $(MODEL)
	$(BIN)/python -m pytest -m clients -o timeout=1200 -o faulthandler_timeout=1500

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $(C_FILES) tests/fuzz/*.c benchmarks/*.c
	@if command -v npx >/dev/null; then npx --yes --package typescript@$(TYPESCRIPT) tsc --project src/vicinal/ui/jsconfig.json; \
	else echo "NEEDS NODE: the types of src/vicinal/ui are not checked"; fi

types: $(STAMP)
	$(BIN)/mypy

check: lint types test ## what CI runs

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(C_FILES) tests/fuzz/*.c benchmarks/*.c

wheel: $(STAMP) ## a wheel in dist, with the tag of the systems that it runs on
	$(BIN)/python scripts/wheel.py

crash: $(STAMP) ## the long crash run: a real server killed 200 times
	$(BIN)/python -m pytest -m slow $(UNBOUND) tests/crash

fuzz: $(STAMP) ## random input for what reads bytes of others, for FUZZ_SECONDS
	$(BIN)/python -m tests.fuzz.run

bench: $(STAMP) ## measure beside the peers: hours, on a quiet machine; prints tables, writes JSON
	$(BIN)/vicinal model pull $(MODEL)
	$(BIN)/python -m benchmarks $(BENCH)

clean:
	rm -rf $(VENV) dist .mypy_cache .pytest_cache .ruff_cache
