# make setup   install into .venv (vLLM for CUDA if there is an NVIDIA GPU, else for the CPU)
# make demo    run everything on the mini data with the demo model
# make test    everything that CI runs: check, then the live tests on a real vLLM
# make test-cluster   the long tests on a Slurm and a Ray cluster of several nodes on this machine
# make check   lint, types and the offline tests
# make docs    the documentation as a site, in build/site
# make next    what the newest pre-release of lm-eval breaks
# make vllm-versions   which of the vLLM names in use each release on the index has, from its wheel
# make quick   lint, types and the offline tests that are not slow (what pre-commit runs)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRA ?= $(shell command -v nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)
# Two workers, each with one thread: torch and BLAS start one per core, and four on two cores wait for each other.
OFFLINE := OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests --ignore=tests/live -n 2 --dist worksteal
STAMP := $(VENV)/.installed-$(EXTRA)
FOR_CPU := --override evalsuite/installation/cpu-overrides.txt --requirement evalsuite/installation/cpu-requirements.txt

# uv uses the folder of wheels that pip is configured with, which often has a CPU build of torch.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)

.PHONY: setup demo test test-cluster check quick lint live docs next vllm-versions clean

setup: $(STAMP)

# Compile bytecode now: if Python may not write it later (PYTHONDONTWRITEBYTECODE, common in containers), every start of
# vLLM would compile thousands of files again.
$(STAMP): pyproject.toml $(wildcard evalsuite/installation/*.txt)
	@echo "==> installing evalsuite with vLLM ($(EXTRA)) into $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is required: make PYTHON=python3.11 setup"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/python -m uv pip install --quiet --compile-bytecode --python $(BIN)/python \
		$(if $(filter cpu,$(EXTRA)),$(FOR_CPU)) --editable '.[$(if $(filter cpu,$(EXTRA)),local,$(EXTRA)),train,ray,dev]'
	@rm -f $(VENV)/.installed-*
	@touch $@
	@echo "==> installed. Next: make demo, or $(BIN)/evalsuite --help"

demo: setup
	@$(BIN)/evalsuite run demo --judge demo --data mini --results results
	@echo "==> done. See results/, then try: $(BIN)/evalsuite run path/to/checkpoint --judge path/to/judge"

check: setup lint
	@$(OFFLINE)

quick: setup lint
	@$(OFFLINE) -m "not slow"

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

test-cluster: setup
	@EVALSUITE_TEST_CLUSTER=1 $(BIN)/python -m pytest tests/evalsuite/fleet

live: setup
	@$(BIN)/python -m pytest tests/live

test: check live
	@echo "==> all tests passed. Next: make demo"

docs: setup
	@$(BIN)/python -m uv pip install --quiet --python $(BIN)/python --requirements pyproject.toml --extra docs
	@$(BIN)/python docs/site/options.py
	@$(BIN)/python docs/site/pages.py build/docs
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --config-file build/mkdocs.yml
	@echo "==> written: build/site/index.html"

next: setup
	@$(BIN)/python tests/next_lm_eval.py

vllm-versions: setup
	@$(BIN)/python tests/vllm_versions.py

clean:
	@rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
