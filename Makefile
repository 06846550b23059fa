# `make demo` and `make test` need Python >= 3.11, git and make. Each installs in .venv what it needs.
PYTHON ?= python3
BIN := .venv/bin
# One BLAS thread per process: the models are small, and the results do not depend on the machine.
export OPENBLAS_NUM_THREADS := 1
export OMP_NUM_THREADS := 1
export MKL_NUM_THREADS := 1
# glibc's allocator keeps what a training step frees for the next one, up to 1 GiB in all and arrays
# up to 32 MiB, instead of giving it back and having every page zeroed again. Other C libraries
# ignore this.
export MALLOC_TRIM_THRESHOLD_ := 1073741824
export MALLOC_MMAP_THRESHOLD_ := 33554432

.PHONY: demo test lint proof mutants reproduce clean

demo: .venv/demo-installed
	$(BIN)/lstm-oracle lockstep counting --out runs/demo --overwrite

test: lint
	$(BIN)/pytest -n 2 --dist worksteal -q

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright

# What is long or statistical, one after another (docs/campaigns.md): hours. Before a release.
proof: .venv/installed
	rm -rf runs/proof && mkdir -p runs/proof
	CHECK_ANNOTATIONS=1 $(BIN)/pytest -n 2 --dist worksteal -q
	$(BIN)/pytest -n 2 -q -m "proof or hypothesis" --hypothesis-profile=proof
	$(BIN)/python -m parity_tests.campaigns.random_problems --problems 10000
	$(BIN)/python -m parity_tests.campaigns.sensitivity
	$(BIN)/python -m parity_tests.campaigns.faults
	$(BIN)/python -m parity_tests.campaigns.training_faults
	$(BIN)/python -m parity_tests.campaigns.free_runs --out runs/proof/free-runs.jsonl
	$(BIN)/python -m parity_tests.campaigns.porting_mutants
	$(BIN)/python -m parity_tests.campaigns.porting_samples
	$(BIN)/python -m parity_tests.campaigns.corruption --files 10000

# 7 minutes on two busy cores: 1,400 small changes to the code, one at a time, each of which the
# tests must notice (docs/mutants.md). Ends with the figures by module.
mutants: .venv/installed
	rm -rf mutants
	PYTHONHASHSEED=0 $(BIN)/mutmut run
	$(BIN)/mutmut results --all true | $(BIN)/python scripts/mutants.py

reproduce: .venv/installed
	$(BIN)/python scripts/reproduce.py --overwrite

# Everything that tests and lint need; it holds what the demo needs.
.venv/installed: .venv/made pyproject.toml constraints.txt
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	touch .venv/demo-installed $@

.venv/demo-installed: .venv/made pyproject.toml constraints.txt
	$(BIN)/pip install --quiet -c constraints.txt -e '.[verify,train]'
	touch $@

IS_RIGHT := 'import sys; sys.exit(sys.version_info < (3, 11))'
# The environment; one that a Python before 3.11 has made is replaced.
.venv/made:
	@$(PYTHON) -c $(IS_RIGHT) 2> /dev/null || { echo >&2 "error: $(PYTHON) is no Python 3.11 or newer;" \
		"name one, as in: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 2; }
	@$(BIN)/python -c $(IS_RIGHT) 2> /dev/null || rm -rf .venv
	$(PYTHON) -m venv .venv
	touch $@

clean:
	rm -rf .venv runs mutants
