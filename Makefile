# What a developer types. Each target first makes what it needs, from Python 3.11, pip and make alone.

# The interpreter itself, where an environment of it that make built is active.
PYTHON ?= $(shell found=$$(command -v python3.11 || command -v python3 || echo python); \
	case $$found in ($(CURDIR)/.venv/*) $$found -c 'import sys; print(sys._base_executable)';; (*) echo $$found;; esac)
JOBS ?= 2
ARGS ?=

VENV := .venv
RUN := $(VENV)/bin
CODE := io_core planner_client deltacat_sources benchmarks tests docs .ci/read_from_wheel.py

# Stamps carry a checksum of what they stand for, so a new checkout or a changed pin is noticed by
# content and an unchanged one costs nothing. The place counts: an environment cannot be moved.
checksum = $(shell { pwd; echo $(PYTHON); cat $(1); } | cksum | tr ' ' -)
BUILD := requirements/build.txt
PLACE := $(VENV)/.place-$(call checksum,/dev/null)
DEMO := $(VENV)/.demo-$(call checksum,pyproject.toml $(BUILD) requirements/demo.txt)
DEV := $(VENV)/.dev-$(call checksum,pyproject.toml $(BUILD) requirements/dev.txt)
BENCH := $(VENV)/.bench-$(call checksum,pyproject.toml $(BUILD) requirements/bench.txt)

# demo < dev < bench: each holds the one before it at the same versions, so any larger one will do.
FOR_DEMO := $(or $(wildcard $(BENCH)),$(wildcard $(DEV)),$(DEMO))
FOR_DEV := $(or $(wildcard $(BENCH)),$(DEV))

# The published clients, whose pins contradict ours: an environment each, by the name of its pins.
CLIENTS := .venv-clients
client = $(CLIENTS)/$(1)/.made-$(call checksum,requirements/$(1).txt)
# The object store that tests talk to S3 with: OpenStack Swift, which tests start and end.
STORE := .venv-store
STORE_MADE := $(STORE)/.made-$(call checksum,requirements/s3-store.txt)
# What makes mutants of the code, which the tests have to notice.
MUTATION := .venv-mutation
MUTATION_MADE := $(MUTATION)/.made-$(call checksum,requirements/mutation.txt)
MUTATED := io_core/prune.py io_core/partition.py io_core/buckets.py io_core/merge.py
FOR_TEST := $(FOR_DEV) $(call client,compat) $(call client,compat-later) $(STORE_MADE)

UV := $(or $(shell command -v uv),.uv/$(call checksum,requirements/uv.txt)/bin/uv)
COMPILE = $(UV) pip compile --quiet --generate-hashes --universal --python-version 3.11 \
	--no-emit-index-url --no-emit-find-links --annotation-style line \
	--custom-compile-command 'make lock' $(ARGS)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# Two targets named at once share one environment, which is built once.
.NOTPARALLEL:
.PHONY: help demo test check mutation test-full bench lint format docs wheel lock clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r name text; \
		do printf 'make %-10s %s\n' "$$name" "$$text"; done

demo: $(FOR_DEMO) ## One table, written once, read by Polars, Daft and Ray
	@$(RUN)/python docs/demo/flights.py $(ARGS)

test: $(FOR_TEST) ## The test suite (JOBS=1: in one process; ARGS: for pytest)
	@echo '==> tests: all, in $(JOBS) processes'
	@HYPOTHESIS_PROFILE=ci $(RUN)/python -m pytest -n $(JOBS) $(ARGS)

check: lint $(FOR_TEST) ## lint, and the tests that start no cluster: under two minutes
	@echo '==> tests: those without a cluster, few examples'
	@HYPOTHESIS_PROFILE=check $(RUN)/python -m pytest -n $(JOBS) -m 'not cluster and not breaks' $(ARGS)

mutation: $(FOR_DEV) $(MUTATION_MADE) ## Mutants of pruning and merging: which do the tests miss? (MUTATED: the files)
	@echo '==> mutants: $(MUTATED)'
	@$(MUTATION)/bin/python .ci/mutants.py $(MUTATED) > $(MUTATION)/mutants.jsonl
	@PYTHONPATH=. $(RUN)/python .ci/mutate.py $(MUTATION)/mutants.jsonl

test-full: $(FOR_TEST) ## All of it, property tests at their full counts
	@echo '==> tests: all, property tests at their full counts'
	@HYPOTHESIS_PROFILE=full $(RUN)/python -m pytest -n $(JOBS) -o faulthandler_timeout=7200 $(ARGS)

bench: $(BENCH) $(call client,compat) $(STORE_MADE) ## Every benchmark, beside its peers (ARGS=--quick: a rough figure)
	@$(RUN)/python -m benchmarks all $(ARGS)

lint: $(FOR_DEV) ## Formatting, ruff, mypy --strict and codespell
	@echo '==> ruff format --check'
	@$(RUN)/ruff format --check --quiet .
	@echo '==> ruff check'
	@$(RUN)/ruff check --quiet .
	@echo '==> mypy --strict $(CODE)'
	@$(RUN)/mypy $(CODE)
	@echo '==> codespell'
	@$(RUN)/codespell

format: $(FOR_DEV) ## Format the code and apply ruff's safe fixes
	@$(RUN)/ruff check --quiet --fix-only .
	@$(RUN)/ruff format .

# mkdocs-material warns of its successor at every start.
docs: $(FOR_DEV) ## These pages, into site/: a broken link or an unknown name fails
	@echo '==> mkdocs build --strict'
	@NO_MKDOCS_2_WARNING=1 $(RUN)/python -m mkdocs build --strict

wheel: $(UV) ## Build the wheel, install it into an empty environment, read a table there
	@UV=$(UV) PYTHON=$(PYTHON) .ci/wheel

lock: $(UV) ## Pin the requirements again (ARGS=--upgrade: to the newest releases)
	@echo '==> requirements: pinning'
	@$(COMPILE) requirements/uv.in --output-file requirements/uv.txt
	@$(COMPILE) requirements/build.in --output-file $(BUILD)
	@$(COMPILE) --extra dev --extra bench pyproject.toml --output-file requirements/bench.txt
	@$(COMPILE) --extra dev --constraints requirements/bench.txt pyproject.toml --output-file requirements/dev.txt
	@$(COMPILE) --extra demo --constraints requirements/bench.txt pyproject.toml --output-file requirements/demo.txt
	@$(COMPILE) requirements/compat.in --output-file requirements/compat.txt
	@$(COMPILE) requirements/compat-later.in --output-file requirements/compat-later.txt
	@$(COMPILE) requirements/s3-store.in --output-file requirements/s3-store.txt
	@$(COMPILE) requirements/mutation.in --output-file requirements/mutation.txt

clean: ## Remove the environment and every cache
	rm -rf .venv $(CLIENTS) $(STORE) $(MUTATION) .uv .mypy_cache .ruff_cache .pytest_cache .hypothesis dist site
	find . -name __pycache__ -prune -exec rm -rf {} +

.uv/%/bin/uv: requirements/uv.txt
	@echo '==> uv: the pinned release, by pip, into .uv'
	@rm -rf .uv
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-input --root-user-action ignore \
		--require-hashes --only-binary :all: --target .uv/$* --requirement requirements/uv.txt
	@touch $@

$(VENV)/.place-%: | $(UV)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11")'
	@echo '==> environment: $(VENV), by $(PYTHON)'
	@$(UV) venv --quiet --clear --no-python-downloads --python $(PYTHON) $(VENV)
	@touch $@

# One rule per set: a pattern cannot take the set's name from the middle of the target.
define environment
$($(1)): $(PLACE) | $(UV)
	@echo '==> packages: requirements/$(2).txt into $(VENV), every hash checked'
	@rm -f $(VENV)/.demo-* $(VENV)/.dev-* $(VENV)/.bench-*
	@$(UV) pip sync --quiet --no-python-downloads --python $(RUN)/python --require-hashes \
		--build-constraints $(BUILD) requirements/$(2).txt
	@echo '==> project: this checkout, editable, into $(VENV)'
	@$(UV) pip install --quiet --no-python-downloads --python $(RUN)/python --no-deps \
		--build-constraints $(BUILD) --editable .
	@touch $$@
endef
$(eval $(call environment,DEMO,demo))
$(eval $(call environment,DEV,dev))
$(eval $(call environment,BENCH,bench))

define published
$(call client,$(1)): | $(UV)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info >= (3, 13) and "The published clients need Python 3.11 or 3.12: make PYTHON=/path/to/python3.11")'
	@echo '==> published client: requirements/$(1).txt into $(CLIENTS)/$(1), every hash checked'
	@$(UV) venv --quiet --clear --no-python-downloads --python $(PYTHON) $(CLIENTS)/$(1)
	@$(UV) pip sync --quiet --no-python-downloads --python $(CLIENTS)/$(1)/bin/python --require-hashes \
		--only-binary :all: requirements/$(1).txt
	@touch $$@
endef
$(eval $(call published,compat))
$(eval $(call published,compat-later))

$(STORE_MADE): | $(UV)
	@echo '==> object store for tests: requirements/s3-store.txt into $(STORE), every hash checked'
	@$(UV) venv --quiet --clear --no-python-downloads --python $(PYTHON) $(STORE)
	@$(UV) pip sync --quiet --no-python-downloads --python $(STORE)/bin/python --require-hashes \
		--only-binary :all: requirements/s3-store.txt
	@touch $@

$(MUTATION_MADE): | $(UV)
	@echo '==> mutants: requirements/mutation.txt into $(MUTATION), every hash checked'
	@$(UV) venv --quiet --clear --no-python-downloads --python $(PYTHON) $(MUTATION)
	@$(UV) pip sync --quiet --no-python-downloads --python $(MUTATION)/bin/python --require-hashes \
		requirements/mutation.txt
	@touch $@
