# Everything that has to be typed. `make` lists it; the README explains it.
#
#   PYTHON=python3.12   the interpreter that makes the environment
#   FRESH=1             make test in a new environment, .test-venv, rather than in .venv
#   TESTS="-k fno"      further arguments of pytest; `make slurm-test` runs what `make test` leaves out
#   JOBS=4              processes that share the tests out, each on one thread

SHELL := bash
PYTHON ?= python3
VENV := $(if $(FRESH),.test-venv,.venv)
BIN := $(VENV)/bin
TESTS ?=
JOBS ?= 2

FNO := runs/quickstart-fno
UNET := runs/quickstart-unet

.DEFAULT_GOAL := help
.PHONY: help install quickstart test slurm-test lint format clean fresh

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

install: $(VENV)/installed ## make the environment .venv (done by the other targets when needed)

quickstart: $(VENV)/installed ## generate a small Navier-Stokes set, train FNO and U-Net, evaluate, write the report
	@printf '\n[1/4] Navier-Stokes data: data/generated/\n'
	$(BIN)/python data/generate.py data=navier_stokes
	@printf '\n[2/4] FNO: $(FNO)\n'
	$(call train_once,$(FNO),experiment=quickstart_fno)
	@printf '\n[3/4] U-Net, the convolutional baseline: $(UNET)\n'
	$(call train_once,$(UNET),experiment=quickstart_unet)
	@printf '\n[4/4] Forecasts at 32, 64 and 128 against the solver\n'
	$(BIN)/python evaluate.py artifact=$(FNO)/artifact.pt compare=[$(UNET)/artifact.pt] \
	  resolutions=[32,64,128] horizon=20

# A finished run is kept, an interrupted one goes on: nothing that was trained is lost or trained again.
define train_once
@if [ -f $(1)/artifact.pt ]; then \
  echo "$(1) is there already; remove it to train again."; \
elif [ -d $(1)/checkpoints ] && [ -n "$$(ls -A $(1)/checkpoints)" ]; then \
  set -x; $(BIN)/python train.py resume=$(1); \
else \
  rmdir $(1)/checkpoints 2>/dev/null; \
  set -x; $(BIN)/python train.py $(2) run_id=$(notdir $(1)); \
fi
endef

test: $(VENV)/installed lint ## lint, types and tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal --durations=10 $(TESTS)

slurm-test: $(VENV)/installed ## trainings on a SLURM cluster of two nodes, started on this machine for the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slurm tests/cluster --durations=0 $(TESTS)

lint: $(VENV)/installed ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/installed ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove environments and caches; data and runs stay
	rm -rf .venv .test-venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/installed: pyproject.toml constraints.txt .ci/install $(if $(FRESH),fresh)
	@.ci/install "$(PYTHON)" "$(VENV)"

fresh:
	rm -rf $(VENV)
