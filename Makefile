# `make demo` and `make test` need Python 3.11 or later and nothing else: they set up .venv themselves, once, and
# again only when the lists of packages change. `make help` lists all targets.
SHELL := /bin/bash -o pipefail
BIN := .venv/bin
CORES ?= $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n < 4 ? n : 4)))
PYTHON ?= $(shell for python in python3 python3.11 python3.12 python3.13; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$python; break; }; done)
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# The environment's programs come first; the workflow's jobs never ask the hub unless they are there to fetch.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export TOKENIZERS_PARALLELISM := false
# Snakemake's scheduler looks again after each timespan, once for every pass it made before: with the default of one
# second, hundreds of jobs keep a core busy with looking.
DEMO := snakemake --configfile workflow/scales/demo.yaml --max-jobs-per-timespan 1000/10s

.DEFAULT_GOAL := help
.PHONY: help setup demo tables test lint format bench chaos chaos-small recover clean distclean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup: .venv/.setup-dev ## the environment .venv with all packages

.venv/.setup: requirements.txt constraints.txt pyproject.toml
	@if [ -z "$(PYTHON)" ]; then \
		echo "kglm needs Python 3.11 or later; install it, or name it: make PYTHON=/path/to/python3" >&2; exit 1; fi
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "kglm needs Python 3.11 or later; $(PYTHON) is older: make PYTHON=/path/to/python3")'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) cannot make environments; install its venv package (Debian: python3-venv)" >&2; exit 1; }
	@echo "Setting up .venv with $$($(PYTHON) --version) (some minutes at the first time) ..."
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv
	@$(INSTALL) --requirement requirements.txt
	@$(INSTALL) --no-deps --editable .
	@touch $@

.venv/.setup-dev: .venv/.setup requirements-dev.txt
	@$(INSTALL) --requirement requirements-dev.txt
	@touch $@

# Every job asks for one thread; memory is shared out so that all jobs together stay below 4 GiB.
demo: .venv/.setup ## the whole pipeline at the demo scale: tables, figures, report
	@$(DEMO) --cores $(CORES) --resources mem_mb=3300 --rerun-incomplete --keep-going --show-failed-logs --quiet host rules
	@cat results/demo/summary.txt

SCALE ?= small

tables: .venv/.setup ## tables and figures of the published runs (results/published), to results/rebuilt; trains nothing
	@kglm rebuild --configfile config.yaml workflow/scales/$(SCALE).yaml

test: .venv/.setup-dev ## all tests
	@OMP_NUM_THREADS=1 python -m pytest -n 2 --dist loadfile

lint: .venv/.setup-dev ## ruff, snakefmt and snakemake --lint
	@ruff check .
	@ruff format --check .
	@snakefmt --line-length 110 --check Snakefile workflow
	@snakemake --lint

format: .venv/.setup-dev ## what lint asks of the formatting
	@ruff check --fix --quiet .
	@ruff format .
	@snakefmt --line-length 110 Snakefile workflow

bench: .venv/.setup-dev ## how fast training, ranking, DistMult and RotatE are (beside PyKEEN's), what the knowledge mask costs
	@python benchmarks/training.py
	@python benchmarks/ranking.py
	@python benchmarks/interactions.py
	@python benchmarks/knowledge_mask.py

recover: ## after a killed snakemake whose SLURM jobs go on: cancel these, unlock, go on (ARGS="--profile slurm ...")
	@workflow/profiles/slurm/recover $(ARGS)

KILLS ?= 50
SEED ?= 0

chaos: .venv/.setup ## the demo, killed at KILLS random moments and started again, ends with the bytes of one left in peace
	@python benchmarks/chaos.py --kills $(KILLS) --seed $(SEED) --cores $(CORES) workflow/scales/demo.yaml

chaos-small: .venv/.setup ## the same with a little graph and ten kills
	@python benchmarks/chaos.py --kills 10 --seed 1 --cores $(CORES) examples/own_graph/config.yaml tests/faults/chaos.yaml

# Deletes each of these paths that is there and in which git tracks nothing, and says so.
remove = @for path in $(1); do \
	if [ ! -e "$$path" ]; then continue; fi; \
	if [ -n "$$(git ls-files -- "$$path" 2>/dev/null | head -1)" ]; then echo "kept: $$path (holds files that git tracks)"; \
	else echo "deleting $$path"; rm -rf -- "$$path"; fi; done

clean: ## delete the demo's results and all caches
	$(call remove,results/demo .ruff_cache .hypothesis build dist src/*.egg-info)
	@find src tests -name __pycache__ -prune -exec rm -rf {} +

# Everything that is made is one folder below results; what is published, or tracked, is no scale's and stays.
MADE = $(filter-out results/published,$(wildcard results/*))

distclean: ## list what it would delete: the environment, and the results of every scale but the published; SURE=1 deletes it
ifeq ($(SURE),1)
	$(call remove,results/demo .ruff_cache .hypothesis build dist src/*.egg-info .venv .snakemake $(MADE))
else
	@echo "This would delete, trained weights included:"
	@for path in .venv .snakemake $(MADE); do if [ -e "$$path" ]; then du -sh "$$path"; fi; done
	@echo "make distclean SURE=1 does it; results/published and what git tracks stay."
endif
