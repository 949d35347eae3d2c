# make setup   install into .venv (vLLM for CUDA where there is an NVIDIA GPU, else for the CPU)
# make demo    run everything on the mini data with the demo model
# make test    everything that CI runs: check, then the live tests on a real vLLM
# make check   lint, types and the offline tests (what pre-commit runs)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRA ?= $(shell command -v nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)
STAMP := $(VENV)/.installed-$(EXTRA)

# A folder of wheels that pip is told about holds for uv too: a CPU build of torch often lies there.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)

.PHONY: setup demo test check lint live clean

setup: $(STAMP)

# Bytecode at once: where Python may not write it (PYTHONDONTWRITEBYTECODE, usual in containers) every start of vLLM
# would compile some thousand files anew.
$(STAMP): pyproject.toml cpu-overrides.txt
	@echo "==> installing evalsuite[$(EXTRA),train,dev] into $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.11 setup"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/python -m uv pip install --quiet --compile-bytecode --python $(BIN)/python \
		$(if $(filter cpu,$(EXTRA)),--override cpu-overrides.txt) --editable '.[$(EXTRA),train,dev]'
	@rm -f $(VENV)/.installed-*
	@touch $@
	@echo "==> installed. Next: make demo, or $(BIN)/evalsuite --help"

demo: setup
	@$(BIN)/evalsuite run demo --judge demo --data mini --results results
	@echo "==> done. Look at results/, then try: $(BIN)/evalsuite run path/to/checkpoint --judge path/to/judge"

check: setup lint
	@$(BIN)/python -m pytest tests --ignore=tests/live

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

live: setup
	@$(BIN)/python -m pytest tests/live

test: check live
	@echo "==> all green. Next: make demo"

clean:
	@rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
