SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup test lint data bench plan sweep sweep-worker codes show analyse perf board paper verify regress torture dashboards clean

PYTHON ?= python3
# The boards are of all corpora, unless one is named.
ONE := $(if $(CORPUS),--corpus $(CORPUS))
CORPUS ?= planted
VENV := .venv
RUN := $(VENV)/bin/python -m
READY := $(VENV)/.ready

help: ## Print this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## Create .venv with the locked packages (PYTHON=python3.12 picks another Python)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("error: Python 3.11 or later is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(RUN) pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(RUN) pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	touch $@

test: $(READY) ## Run the tests (GRBENCH_DATA=folder adds those on real data)
	$(RUN) pytest -q -n 2 --dist worksteal

lint: $(READY) ## Check style and types
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy

data: $(READY) ## Prepare a corpus and print its card: CORPUS=all_beauty SOURCE=auto|local|official|hub
	$(RUN) data_prep $(CORPUS) $(if $(SOURCE),--source $(SOURCE))

bench: $(READY) ## Train, grade, print the table: CORPUS=planted MODELS="sasrec tiger" SEEDS=n JOBS=n THREADS=n PRECISION=auto|32|bf16 SET="key=value ..." BOARD=dir SOURCE=... UNTUNED=1 TRACK=offline|online|off CLUSTER=auto|host:port DEVICES=n NODES=n
	$(RUN) benchmarks bench --corpus $(CORPUS) $(if $(MODELS),--models $(MODELS)) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(JOBS),--jobs $(JOBS)) $(if $(SET),--set $(SET)) $(if $(BOARD),--board $(BOARD)) $(if $(SOURCE),--source $(SOURCE)) $(if $(THREADS),--threads $(THREADS)) $(if $(PRECISION),--precision $(PRECISION)) $(if $(UNTUNED),--untuned) $(if $(TRACK),--track $(TRACK)) $(if $(CLUSTER),--cluster $(CLUSTER)) $(if $(DEVICES),--devices $(DEVICES)) $(if $(NODES),--nodes $(NODES))

plan: $(READY) ## Make the rows of a plan, or say how far it is: PLAN=benchmarks/plans/smoke.toml HOURS=h JOBS=n STATE=1 VECTORS=path PRECISION=... BOARD=dir CLUSTER=...
	$(RUN) benchmarks plan $(or $(PLAN),benchmarks/plans/smoke.toml) $(if $(STATE),--state) $(if $(HOURS),--hours $(HOURS)) $(if $(JOBS),--jobs $(JOBS)) $(if $(VECTORS),--vectors-path $(VECTORS)) $(if $(PRECISION),--precision $(PRECISION)) $(if $(BOARD),--board $(BOARD)) $(if $(SOURCE),--source $(SOURCE)) $(if $(THREADS),--threads $(THREADS)) $(if $(CLUSTER),--cluster $(CLUSTER))

sweep: $(READY) ## Search a model's tuned fields by validation NDCG@10: MODEL=tiger CORPUS=... TRIALS=n JOBS=n STORAGE=url BUDGET=hours CLUSTER=address SET="..." REPLACE=1 TRACK=offline|online|off
	$(RUN) benchmarks sweep --model $(MODEL) --corpus $(CORPUS) $(if $(TRIALS),--trials $(TRIALS)) $(if $(JOBS),--jobs $(JOBS)) $(if $(STORAGE),--storage $(STORAGE)) $(if $(BUDGET),--budget $(BUDGET)) $(if $(REPLACE),--replace) $(if $(CLUSTER),--cluster $(CLUSTER)) $(if $(SET),--set $(SET)) $(if $(SOURCE),--source $(SOURCE)) $(if $(THREADS),--threads $(THREADS)) $(if $(PRECISION),--precision $(PRECISION)) $(if $(TRACK),--track $(TRACK))

sweep-worker: $(READY) ## Work on a study on PostgreSQL, from any machine: STORAGE=url STUDY=name TRACK=offline|online|off
	$(RUN) benchmarks sweep-worker --storage $(STORAGE) --study $(STUDY) $(if $(TRACK),--track $(TRACK))

codes: $(READY) ## Train tokenizers alone and print their code cards: CORPUS=... MODELS="tiger letter" SEEDS=n SET="..." BOARD=dir
	$(RUN) benchmarks codes --corpus $(CORPUS) --models $(or $(MODELS),tiger letter) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(SET),--set $(SET)) $(if $(BOARD),--board $(BOARD)) $(if $(SOURCE),--source $(SOURCE)) $(if $(THREADS),--threads $(THREADS))

show: $(READY) ## Print an experiment's complete config and where each value is from: MODEL=decor-base CORPUS=... SET="..." UNTUNED=1
	$(RUN) benchmarks show $(or $(MODEL),tiger) $(CORPUS) $(if $(SET),--set $(SET)) $(if $(UNTUNED),--untuned)

analyse: $(READY) ## Make one of the papers' analyses, a table and a picture: NAME=utilisation|prefixes|sensitivity|unseen|alignment|weights|entropy|density|index|batching|precision CORPUS=... MODELS=... SET="..." OUT=docs/analyses
	$(RUN) benchmarks analyse $(or $(NAME),utilisation) --corpus $(CORPUS) $(if $(MODELS),--models $(MODELS)) $(if $(JOBS),--jobs $(JOBS)) $(if $(SET),--set $(SET)) $(if $(OUT),--out $(OUT)) $(if $(BOARD),--board $(BOARD)) $(if $(SOURCE),--source $(SOURCE)) $(if $(THREADS),--threads $(THREADS))

perf: $(READY) ## Time our paths beside their baselines, into runs/perf/latest.json: ONLY="grade kcore"
	$(RUN) benchmarks perf $(if $(ONLY),--only $(ONLY))

board: $(READY) ## Render tables and HTML pages from the records, print the papers' numbers beside ours: BOARD=dir CORPUS=...
	$(RUN) leaderboards board $(if $(BOARD),--board $(BOARD)) $(ONE)

paper: $(READY) ## Print the boards as LaTeX tables: BOARD=dir CORPUS=...
	$(RUN) leaderboards paper $(if $(BOARD),--board $(BOARD)) $(ONE)

verify: $(READY) ## Recompute every number of every record, check hashes and tables: ROW=part of a path DEEP=1 (rank again) BASE=revision
	$(RUN) leaderboards verify $(if $(BOARD),--board $(BOARD)) $(if $(ROW),--row $(ROW)) $(if $(BASE),--base $(BASE))
	$(if $(DEEP),$(RUN) benchmarks rerank $(if $(BOARD),--board $(BOARD)) $(if $(ROW),--row $(ROW)))

regress: $(READY) ## Hold the quick board against its references: MODELS=... JOBS=n ACCEPT=1 WHY="..." (new references)
	$(RUN) benchmarks regress $(if $(MODELS),--models $(MODELS)) $(if $(JOBS),--jobs $(JOBS)) $(if $(ACCEPT),--accept $(if $(WHY),--why "$(WHY)"))

torture: $(READY) ## Kill a bench and a sweep at random moments, nothing may be lost or change: KILLS=100 SEED=0 WORK=dir
	$(RUN) benchmarks torture $(if $(KILLS),--kills $(KILLS)) $(if $(SEED),--seed $(SEED)) $(if $(WORK),--work $(WORK))

dashboards: $(READY) ## Define the workspace and the report of the W&B project: ENTITY=... PROJECT=... DRY=1 (print them)
	$(RUN) benchmarks dashboards $(if $(ENTITY),--entity $(ENTITY)) $(if $(PROJECT),--project $(PROJECT)) $(if $(DRY),--dry-run)

clean: ## Remove .venv and caches; records, tables and runs/ (downloads, trainings) stay
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis grbench.egg-info
	find $(wildcard benchmarks data_prep leaderboards models tests) -name __pycache__ -prune -exec rm -rf {} +
