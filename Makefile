# make up     install once into .venv, then start a lab on this machine (Ctrl-C stops it)
# make check  lint and every test that starts no service: about 2 minutes on two cores
# make test   lint and all tests, in a real browser too: about 10 minutes
# make lint   ruff (rules and format) and mypy only
# make docs   build the documentation into docs/_build/html; warnings are errors
# UP="--port 8080 --data ~/lab" and TESTS="tests/test_cli.py -x" are handed on;
# JOBS=1 runs one test at a time.

SHELL := /bin/sh
VENV := .venv
PYTHON := $(VENV)/bin/python
EXTRAS := server,worker,dashboard,embedded,mlflow,dev,docs
# Tests with services wait for leases, polls and browsers: more processes than cores pay.
JOBS ?= 4
PYTEST := $(PYTHON) -m pytest

# Threads of one process fight those of the next one on a busy machine.
export OMP_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# While pip runs: for how long already, how many packages are here, and what it is at; on one line, in a terminal only.
define PROGRESS
while sleep 1 && [ -t 1 ]; do \
	    have=$$(grep -cE '^ *(Downloading|Using cached) .*(whl|gz)' $(VENV)/install.log); \
	    doing=$$(grep -E '^ *(Collecting|Downloading|Building|Installing)' $(VENV)/install.log | tail -n 1 | sed 's/^ *//' | cut -c1-50); \
	    printf '\r\033[K  %d s, %d of about $(shell grep -c == constraints.txt) packages: %s' \
	      $$(($$(date +%s) - began)) "$$have" "$$doing"; \
	  done
endef

.PHONY: up check test lint docs environment browser

up: environment
	@$(PYTHON) -m ucurve.cli up $(UP)

check: environment lint
	@$(PYTEST) -m "not engines and not slow" $(if $(TESTS),,-n 2) $(TESTS)

test: environment browser lint
	@$(PYTEST) $(if $(TESTS),,-n $(JOBS)) $(TESTS)

lint: environment
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check --quiet .
	@$(PYTHON) -m mypy

docs: environment
	@$(PYTHON) -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

environment: $(VENV)/installed

# Runs when something about the packages changed, and only then. The stamp is written last, so a broken-off
# installation is repeated.
$(VENV)/installed: pyproject.toml constraints.txt
	@found=; for name in python3.11 python3.12 python3.13 python3; do \
	  if $$name -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	  then found=$$name; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "ucurve needs Python 3.11 or newer with its venv module (Debian: apt-get install python3 python3-venv)." >&2; \
	  exit 1; \
	fi; \
	echo "Installing into $(VENV) with $$found: once, some minutes; what happens is in $(VENV)/install.log"; \
	$$found -m venv $(VENV) || exit 1; \
	began=$$(date +%s); : >$(VENV)/install.log; { $(PROGRESS); } & watcher=$$!; trap 'kill $$watcher 2>/dev/null' EXIT; \
	{ $(PYTHON) -m pip install -c constraints.txt setuptools && \
	  $(PYTHON) -m pip install -c constraints.txt --no-build-isolation -e '.[$(EXTRAS)]'; \
	} >$(VENV)/install.log 2>&1 || { [ ! -t 1 ] || echo; tail -n 20 $(VENV)/install.log >&2; \
	  echo "The installation failed (above: the end of $(VENV)/install.log); 'make $(MAKECMDGOALS)' tries again." >&2; exit 1; }; \
	touch $@; [ ! -t 1 ] || printf '\r\033[K'; echo "Installed in $$(($$(date +%s) - began)) s."

browser:
	@command -v chromium >/dev/null || { \
	  if [ "$$(id -u)" = 0 ]; then root=; else root="sudo -n"; fi; \
	  echo "Installing Debian's chromium for the browser tests"; \
	  { $$root apt-get update && $$root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium; } \
	    >$(VENV)/chromium.log 2>&1 || { tail -n 5 $(VENV)/chromium.log >&2; \
	    echo "The browser tests need chromium: install it so that 'chromium' is on PATH, then run 'make test' again." >&2; \
	    exit 1; }; \
	}
