# One virtual environment, .venv: the locked tools, and the project as the wheel that a user gets. `test-all` has one for
# each Python. Two stamps keep it current: one for the lock and the interpreter, one for the sources.

ifndef PYTHON
PYTHON := $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo "$$python" && break; done)
endif

# The version is in the stamp's name, so that another PYTHON makes another environment. Empty: too old, or not there.
PYTHON_VERSION := $(if $(PYTHON),$(shell $(PYTHON) -c 'import platform, sys; \
	sys.version_info >= (3, 11) and print(platform.python_version())'))
VENV := .venv
LOCKED := $(VENV)/.locked-$(PYTHON_VERSION)
INSTALLED := $(VENV)/.installed-$(PYTHON_VERSION)
# Tests of whole processes use a processor for about half of their time, and wait for the rest. So there are two workers
# for each processor, up to four.
# A worker that a hanging test has ended is not replaced: with files as units, pytest-xdist then waits for ever.
WORKERS = $(shell $(VENV)/bin/python -c 'import os; print(min(len(os.sched_getaffinity(0)) * 2, 4))')
# Directories too: their time changes when a file goes.
SOURCES := $(shell find hub producers -name __pycache__ -prune -o -print)

# Tools with an environment and a lock of their own.
DOCS_LOCKED := .venv-docs/.locked-$(PYTHON_VERSION)
BENCH_LOCKED := .venv-bench/.locked-$(PYTHON_VERSION)
TYPES_LOCKED := .venv-types/.locked-$(PYTHON_VERSION)

# `pip` says only what went wrong; what it is asked to do is said here.
PIP_QUIETLY := -m pip --quiet --quiet --disable-pip-version-check --no-input
PIP := $(VENV)/bin/python $(PIP_QUIETLY)
UV := uv==0.13.8

# Nothing that runs here may import the checkout instead of the wheel.
export PYTHONSAFEPATH := 1
# Several processes read the tests, which takes each of them twice as long if none may keep what it has compiled.
unexport PYTHONDONTWRITEBYTECODE
# Hypothesis would import Trio, which Selenium has installed, in each of them.
export HYPOTHESIS_NO_PLUGINS := 1

.PHONY: help run test test-all coverage mutants bench lint format docs lock release clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo 'PYTHON=python3.13 picks the interpreter; ARGS="-k journal -x" goes to pytest.'

run: $(INSTALLED) ## hub and producers in one process, on this terminal
	@$(VENV)/bin/mpsr demo

test: lint $(INSTALLED) ## lint, tests against the built wheel, coverage (not with ARGS); CI also runs `make docs`
	@echo "== pytest"
	@$(VENV)/bin/pytest --numprocesses $(WORKERS) --dist loadfile --max-worker-restart 0 $(ARGS)
	@$(if $(ARGS),,$(MAKE) --no-print-directory coverage)

test-all: ## `make test` on every Python from 3.11 on of this machine, each in an environment of its own
	@MAKE="$(MAKE)" .ci/test-all

coverage: $(INSTALLED) ## hub/wire and hub/journal: lines and branches that their tests run, against the floors
	@echo "== coverage"
	@$(VENV)/bin/python .ci/covered.py

lint: $(LOCKED) $(INSTALLED) $(TYPES_LOCKED) ## style, format and types
	@echo "== ruff check"
	@$(VENV)/bin/ruff check --quiet .
	@echo "== ruff format --check"
	@$(VENV)/bin/ruff format --quiet --check . || { echo "run: make format"; exit 1; }
	@echo "== mypy"
	@$(VENV)/bin/mypy
	@echo "== pyright --verifytypes"
	@$(VENV)/bin/python .ci/publictypes.py .venv-types/bin/pyright hub producers

mutants: $(LOCKED) ## change one token at a time and run its tests; survivors show missing tests
	@PYTHONPATH=$(CURDIR) $(VENV)/bin/python -m tests.mutants $(ARGS)

bench: $(INSTALLED) $(BENCH_LOCKED) ## the hub and other programs in turn, 25 minutes; ARGS=--quick: 3 minutes; writes docs/performance.md
	@PYTHONPATH=$(CURDIR) $(VENV)/bin/python -m tests.benchmarks.debian
	@PYTHONPATH=$(CURDIR) $(VENV)/bin/python -u -m tests.benchmarks.sitting $(ARGS)

format: $(LOCKED) ## rewrite the code in the project's format
	@$(VENV)/bin/ruff check --quiet --fix .; $(VENV)/bin/ruff format .

docs: $(DOCS_LOCKED) ## the site, from README, docs/ and docstrings; a dead link is an error
	@echo "== sphinx-build"
	@rm -rf build/docs
	@.venv-docs/bin/sphinx-build --fail-on-warning --keep-going --quiet --conf-dir docs --builder html . build/docs
	@echo '<meta http-equiv="refresh" content="0; url=docs/index.html">' >build/docs/index.html
	@echo "build/docs/index.html"

# Locks of their own, with the versions of requirements.lock where both have a package.
IMAGE_EXTRAS := files http nats otlp # what a hub runs; SQL would double the size of the image
LOCK := pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

lock: ## rewrite the locks of dependencies; ARGS=--upgrade takes the newest versions
	@scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && \
	$(PYTHON) -m venv "$$scratch" && "$$scratch/bin/pip" install -qq "$(UV)" && \
	"$$scratch/bin/uv" $(LOCK) --all-extras --group dev $(ARGS) --output-file requirements.lock pyproject.toml && \
	for group in bench docs image types; do \
		extras=--all-extras; \
		if [ $$group = image ]; then extras="$(IMAGE_EXTRAS:%=--extra %)"; fi; \
		"$$scratch/bin/uv" $(LOCK) $$extras --group $$group --constraints requirements.lock $(ARGS) \
			--output-file requirements-$$group.lock pyproject.toml || exit; \
	done
	@! grep -n '://' requirements*.lock || { echo "a lock names an address"; exit 1; }

release: $(LOCKED) ## VERSION=1.2.3: check, build, commit and tag it, up to the upload; ARGS=--dry-run changes nothing
	@$(if $(VERSION),,echo "make release VERSION=1.2.3"; exit 2)
	@$(VENV)/bin/python .ci/release.py $(VERSION) $(ARGS)

clean: ## remove the environment, the caches and what was built
	@rm -rf .venv .venv-* .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
	@find hub producers tests -name __pycache__ -prune -exec rm -rf {} +

$(LOCKED): requirements.lock
	@test -n "$(PYTHON_VERSION)" || { echo "Python 3.11 or newer, with venv, was not found: make PYTHON=..."; exit 1; }
	@echo "== $(VENV): Python $(PYTHON_VERSION), locked dependencies"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PIP) install --require-hashes -r requirements.lock
	@touch $@

.venv-%/.locked-$(PYTHON_VERSION): requirements-%.lock
	@test -n "$(PYTHON_VERSION)" || { echo "Python 3.11 or newer, with venv, was not found: make PYTHON=..."; exit 1; }
	@echo "== .venv-$*: Python $(PYTHON_VERSION), locked dependencies"
	@$(PYTHON) -m venv --clear .venv-$*
	@.venv-$*/bin/python $(PIP_QUIETLY) install --require-hashes -r requirements-$*.lock
	@touch $@

$(INSTALLED): $(LOCKED) $(SOURCES) pyproject.toml README.md LICENSE
	@echo "== $(VENV): mpsr, built as a wheel"
	@$(PIP) install --no-index --no-deps --no-build-isolation --force-reinstall .
	@touch $@
