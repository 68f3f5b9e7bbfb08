SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup test lint data bench plan sweep sweep-worker codes show analyse ladder perf board paper findings verify reproduce export predict regress torture dashboards notebook clean

# A value as it was given, one word of the shell whatever it holds; an option with such a value, or with one for each
# word of it, where the variable is set.
quoted = '$(subst ','\'',$(1))'
one = $(if $(value $(2)),$(1) $(call quoted,$(value $(2))))
each = $(if $(value $(2)),$(1) $(foreach word,$(value $(2)),$(call quoted,$(word))))

# Text where a variable is 1, nothing where it is empty. Who writes 0 or no does not mean yes.
where = $(if $(value $(2)),$(if $(filter-out 1,$(value $(2)))$(word 2,$(value $(2))),$(error $(2) is $(value $(2)); expected 1, or nothing),$(1)))
# What replaces what others published no variable of the environment decides.
told = $(if $(filter command,$(firstword $(origin $(2)))),$(call where,$(1),$(2)))

PYTHON ?= python3
# A mistyped variable would be ignored, and everything trained in place of what was meant. What a target knows stands in
# its help. Of the environment, which is full of other programs' names, one is told that has an s too many or too few.
KNOWN := $(sort $(foreach goal,$(MAKECMDGOALS),$(shell sed -n 's/^$(goal):.*## //p' Makefile | grep -oE '\b[A-Z]{2,}=' | tr -d =)))
GIVEN := $(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(name)))
# make hands what it is given to its commands' environment, and would run a $(shell ...) in it for that.
unexport $(filter-out -% MAKE% GRBENCH_%,$(GIVEN))
$(foreach name,$(filter GRBENCH_%,$(GIVEN)),$(eval override $(name) := $$(value $(name))))
MEANT := $(foreach name,$(KNOWN:%=%S) $(patsubst %S,%,$(KNOWN)),$(if $(filter environment,$(origin $(name))),$(name)))
UNKNOWN := $(firstword $(filter-out PYTHON GRBENCH_% $(KNOWN),$(filter-out -% MAKE%,$(GIVEN)) $(MEANT)))
# The known name that is spelt most like it.
nearest = $(shell $(PYTHON) -c 'import difflib, sys; print(*difflib.get_close_matches(sys.argv[1], sys.argv[2:], 1, 0))' $(call quoted,$(1)) $(KNOWN))
possible = did you mean $(call nearest,$(UNKNOWN))? possible: $(KNOWN)$(if $(filter ARGS,$(KNOWN)),; other options go through ARGS="--option value")
$(if $(and $(MAKECMDGOALS),$(UNKNOWN)),$(error make $(MAKECMDGOALS) knows no $(UNKNOWN); $(if $(KNOWN),$(possible),expected no variable)))

# Options that have no variable, as the command has them.
MORE = $(foreach word,$(value ARGS),$(call quoted,$(word)))
# What is told of a file of one's own. Of the environment COLUMNS is the width of a terminal.
OWN = $(if $(filter command,$(firstword $(origin COLUMNS))),$(call each,--columns,COLUMNS)) $(call one,--items,ITEMS) $(call one,--core,CORE)
# What is sent to others no variable of the environment decides.
SENT = $(if $(filter command,$(firstword $(origin HUB))),$(call one,--push-to-hub,HUB))
# The boards are of all corpora, unless one is named.
ONE := $(call one,--corpus,CORPUS)
CORPUS ?= planted
VENV := .venv
RUN := $(VENV)/bin/python -m
READY := $(VENV)/.ready
# Memory in large pages, where glibc and the kernel have them; `make perf ONLY=huge_pages` tells what a training gains.
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1
# Pictures are files; the backend that a notebook gives its commands is not installed here.
export MPLBACKEND := agg

help: ## Print this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## Create .venv with the locked packages (PYTHON=python3.12 picks another Python)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("error: Python 3.11 or later is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -c 'import sys; sys.version_info < (3, 13) or print("note: requirements.lock is for Python 3.11 and 3.12, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(RUN) pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(RUN) pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	touch $@

# Its many short processes read the same modules: compiled once, whatever the environment says.
test: $(READY) ## Run the tests (GRBENCH_DATA=folder adds those on real data): FAST=1 (without the slow ones) ARGS="-k name"
	env -u PYTHONDONTWRITEBYTECODE $(RUN) pytest -q -n 2 --dist worksteal $(call where,-m 'not slow',FAST) $(MORE)

lint: $(READY) ## Check style and types
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy

data: $(READY) ## Prepare a corpus and print its card: CORPUS=all_beauty SOURCE=auto|local|official|hub CARD=1 (add a download's hashes to its card); of a file of your own CORPUS=path.csv COLUMNS="user=uid ..." ITEMS=path CORE=n ARGS=...
	$(RUN) data_prep $(call quoted,$(value CORPUS)) $(OWN) $(call one,--source,SOURCE) $(call where,--card,CARD) $(MORE)

bench: $(READY) ## Train, grade, print the table: CORPUS=planted MODELS="sasrec tiger" SEEDS=n JOBS=n PRECISION=auto|32|bf16 SET="key=value ..." BOARD=dir SOURCE=... VECTORS=path TRACK=offline|online|off; of a file of your own CORPUS=path.csv COLUMNS="user=uid ..." ITEMS=path CORE=n ARGS="--threads 2 --untuned"
	$(RUN) benchmarks bench $(call one,--corpus,CORPUS) $(OWN) $(call each,--models,MODELS) $(call one,--seeds,SEEDS) $(call one,--jobs,JOBS) $(call each,--set,SET) $(call one,--board,BOARD) $(call one,--source,SOURCE) $(call one,--precision,PRECISION) $(call one,--vectors-path,VECTORS) $(call one,--track,TRACK) $(MORE)

plan: $(READY) ## Make the rows of a plan, or say how far it is: PLAN=benchmarks/plans/smoke.toml HOURS=h JOBS=n STATE=1 VECTORS=path PRECISION=... BOARD=dir SOURCE=... ARGS=...
	$(RUN) benchmarks plan $(call quoted,$(or $(value PLAN),benchmarks/plans/smoke.toml)) $(call where,--state,STATE) $(call one,--hours,HOURS) $(call one,--jobs,JOBS) $(call one,--vectors-path,VECTORS) $(call one,--precision,PRECISION) $(call one,--board,BOARD) $(call one,--source,SOURCE) $(MORE)

sweep: $(READY) ## Search a model's tuned fields by validation NDCG@10: MODEL=tiger CORPUS=... TRIALS=n JOBS=n STORAGE=url BUDGET=hours SET="..." REPLACE=1 SOURCE=... PRECISION=... TRACK=offline|online|off COLUMNS=... ITEMS=path CORE=n ARGS=...
	@$(RUN) benchmarks sweep --model $(call quoted,$(value MODEL)) $(call one,--corpus,CORPUS) $(OWN) $(call one,--trials,TRIALS) $(call one,--jobs,JOBS) $(call one,--storage,STORAGE) $(call one,--budget,BUDGET) $(call told,--replace,REPLACE) $(call each,--set,SET) $(call one,--source,SOURCE) $(call one,--precision,PRECISION) $(call one,--track,TRACK) $(MORE)

sweep-worker: $(READY) ## Work on a study on PostgreSQL, from any machine: STORAGE=url STUDY=name TRACK=offline|online|off ARGS=...
	@$(RUN) benchmarks sweep-worker --storage $(call quoted,$(value STORAGE)) --study $(call quoted,$(value STUDY)) $(call one,--track,TRACK) $(MORE)

codes: $(READY) ## Train tokenizers alone and print their code cards: CORPUS=... MODELS="tiger letter" SEEDS=n SET="..." BOARD=dir SOURCE=... COLUMNS=... ITEMS=path CORE=n ARGS=...
	$(RUN) benchmarks codes $(call one,--corpus,CORPUS) $(OWN) $(or $(call each,--models,MODELS),--models tiger letter) $(call one,--seeds,SEEDS) $(call each,--set,SET) $(call one,--board,BOARD) $(call one,--source,SOURCE) $(MORE)

show: $(READY) ## Print an experiment's complete config and where each value is from: MODEL=decor-base CORPUS=... SET="..." COLUMNS=... ITEMS=path CORE=n ARGS=...
	$(RUN) benchmarks show $(call quoted,$(or $(value MODEL),tiger)) $(call quoted,$(value CORPUS)) $(OWN) $(call each,--set,SET) $(MORE)

analyse: $(READY) ## Make one of the papers' analyses, a table and a picture: NAME=utilisation|prefixes|sensitivity|unseen|alignment|weights|entropy|density|index|batching|precision|ladder|cold_start|code_loss|support|fusion CORPUS=... MODELS=... ROW=record (its weights as they are: code_loss, ladder) JOBS=n SET="..." BOARD=dir (its rows: support) COLUMNS=... ITEMS=path CORE=n ARGS=...
	$(RUN) benchmarks analyse $(call quoted,$(or $(if $(filter command,$(firstword $(origin NAME))),$(value NAME)),utilisation)) $(call one,--corpus,CORPUS) $(OWN) $(call each,--models,MODELS) $(call one,--row,ROW) $(call one,--jobs,JOBS) $(call each,--set,SET) $(call one,--board,BOARD) $(MORE)

ladder: $(READY) ## Take a model's number apart, one convention of published code after the other: CORPUS=... MODEL=sasrec ROW=record (its weights as they are) JOBS=n SET="..." BOARD=dir SOURCE=... COLUMNS=... ITEMS=path CORE=n ARGS=...
	$(RUN) benchmarks analyse ladder $(call one,--corpus,CORPUS) $(OWN) $(if $(value ROW),$(call one,--row,ROW) $(call one,--models,MODEL),--models $(call quoted,$(or $(value MODEL),sasrec))) $(call one,--jobs,JOBS) $(call each,--set,SET) $(call one,--board,BOARD) $(call one,--source,SOURCE) $(MORE)

perf: $(READY) ## Time our paths beside their baselines, into runs/perf/latest.json: ONLY="grade kcore" ROW=record (of a trained TIGER or LETTER; VECTORS=path)
	$(RUN) benchmarks perf $(call each,--only,ONLY) $(call one,--row,ROW) $(call one,--vectors-path,VECTORS)

board: $(READY) ## Render tables and HTML pages from the records, print the papers' numbers beside ours: BOARD=dir CORPUS=...
	$(RUN) leaderboards board $(call one,--board,BOARD) $(ONE)

paper: $(READY) ## Print the boards as LaTeX tables: BOARD=dir CORPUS=...
	$(RUN) leaderboards paper $(call one,--board,BOARD) $(ONE)

findings: $(READY) ## Make the tables of docs/findings.md again, from the records of all boards: BOARD=dir
	$(RUN) leaderboards findings $(call one,--board,BOARD)

verify: $(READY) ## Recompute every number of every record, check hashes and tables: BOARD=dir ROW=part of a path DEEP=1 (rank again; VECTORS=path) BASE=revision
	$(RUN) leaderboards verify $(call one,--board,BOARD) $(call one,--row,ROW) $(call one,--base,BASE)
	$(call where,$(RUN) benchmarks rerank $(call one,--board,BOARD) $(call one,--row,ROW) $(call one,--vectors-path,VECTORS),DEEP)

reproduce: $(READY) ## Train rows again from their records alone and compare: ROW=part of a path SAMPLE=n (drawn) MINUTES=n (at most) BASE=revision (new ones first) BOARD=dir SOURCE=... VECTORS=path ARGS=...
	$(RUN) benchmarks reproduce $(call one,--row,ROW) $(call one,--sample,SAMPLE) $(call one,--minutes,MINUTES) $(call one,--base,BASE) $(call one,--board,BOARD) $(call one,--source,SOURCE) $(call one,--vectors-path,VECTORS) $(MORE)

export: $(READY) ## Write a row's model into a folder that needs no training data: ROW=path of a record DIR=folder HUB=owner/name (send it to the Hugging Face hub, privately) SOURCE=... VECTORS=path ARGS=...
	$(RUN) grbench export $(call quoted,$(value ROW)) $(call quoted,$(value DIR)) $(SENT) $(call one,--source,SOURCE) $(call one,--vectors-path,VECTORS) $(MORE)

predict: $(READY) ## Write the best items for the users of a file: ROW=record or exported folder INPUT=histories.jsonl OUTPUT=top.parquet TOPK=n UNSEEN=1 SOURCE=... VECTORS=path ARGS=...
	$(RUN) grbench predict $(call one,--row,ROW) $(call one,--input,INPUT) $(call one,--output,OUTPUT) $(call one,--k,TOPK) $(call where,--unseen,UNSEEN) $(call one,--source,SOURCE) $(call one,--vectors-path,VECTORS) $(MORE)

regress: $(READY) ## Hold the quick board against its references: MODELS=... JOBS=n ACCEPT=1 WHY="..." (new references) ARGS=...
	$(RUN) benchmarks regress $(call each,--models,MODELS) $(call one,--jobs,JOBS) $(call told,--accept $(call one,--why,WHY),ACCEPT) $(MORE)

torture: $(READY) ## Kill benches and a sweep at random moments, nothing may be lost, change or be left at work: KILLS=100 SEED=0 ARGS=...
	$(RUN) tests.crash_test $(call one,--kills,KILLS) $(call one,--seed,SEED) $(MORE)

dashboards: $(READY) ## Define the workspace and the report of the W&B project: ENTITY=... PROJECT=... DRY=1 (print them) ARGS=...
	$(RUN) benchmarks dashboards $(call one,--entity,ENTITY) $(call one,--project,PROJECT) $(call where,--dry-run,DRY) $(MORE)

notebook: $(READY) ## Execute docs/example.ipynb again, in minutes, with nbclient and ipykernel in runs/notebook
	[ -d runs/notebook/ipykernel ] || $(RUN) pip install --quiet --disable-pip-version-check --target runs/notebook nbclient ipykernel
	rm -rf runs/example
	env -u MPLBACKEND PYTHONPATH="$(CURDIR)/runs/notebook" $(VENV)/bin/python docs/execute.py

clean: ## Remove .venv and caches; records, tables and runs/ (downloads, trainings) stay
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis grbench.egg-info
	find $(wildcard benchmarks data_prep grbench leaderboards models tests) -name __pycache__ -prune -exec rm -rf {} +
