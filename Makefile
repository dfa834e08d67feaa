# Each target makes what it needs: the virtual environment, and in it an extra of pyproject.toml.
#
#   make PYTHON=python3.12 test     another interpreter (for a new environment)
#   make VENV=/some/env test        another environment, made if missing
#   make EXTRA=dev test lint        one extra for all targets, so that pip runs once (as .ci/run does)

PYTHON ?= python3
VENV ?= .venv
EXTRA ?=
# What `make test` hands to pytest: make test TESTS="tests/test_packaging.py -x"
TESTS ?=
# And how: make test PYTEST_ARGS="-n 2 --dist loadfile" shares the files out to two processes
PYTEST_ARGS ?=
# What `make nojit` runs: all of the mathematics, less what takes minutes in plain Python.
NOJIT_TESTS ?= tests/test_equations.py tests/test_methods.py tests/test_variants.py \
  tests/test_divergence.py tests/test_family.py tests/test_losses.py tests/test_closed_form.py \
  tests/test_streaming.py tests/test_row_weights.py tests/test_closed_form_weights.py \
  tests/test_lanes.py tests/test_check_model.py \
  -k 'not float32 and not width and not (test_meta_gradient and explicit) \
    and not (test_lanes and (law or losses)) and not (test_check_model and (famil or sum))'
# What `make steady` hands to tools/steady.py: make steady STEADY="--random 2 --load 1"
STEADY ?=
# Which cases `make fuzz` draws, and how many times as many as the 54000 of CI
SEED ?= 0
TIMES ?= 1
# What `make docs` hands to Sphinx: make docs SPHINX="-D plot_gallery=0" runs no example
SPHINX ?=
# Which asv benchmarks, as a regular expression: make bench BENCH=Latency
BENCH ?= .

bin := $(abspath $(VENV))/bin
needs = $(VENV)/.extra-$(or $(EXTRA),$(1))
sources := $(shell find fastmaml kernels -name '*.py') fastmaml/py.typed
wheel := build/wheel
floors := build/floors
site := docs/_build/html

.PHONY: help demo test nojit floors installs steady coverage doctest peers fuzz lint format docs docs-open docs-check bench bench-check compare sweep real clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-12s %s\n", $$1, $$2}' Makefile

demo: $(call needs,cli) ## meta-train on sinusoids for about a minute; table and pictures in sinusoid-out/
	$(bin)/fastmaml sinusoid --out sinusoid-out

test: $(call needs,test) ## the test suite
	$(bin)/pytest $(PYTEST_ARGS) $(TESTS)

nojit: $(call needs,test) ## the kernels as plain Python, where an index out of bounds is an error
	NUMBA_DISABLE_JIT=1 $(bin)/pytest $(PYTEST_ARGS) $(NOJIT_TESTS)

floors: $(floors)/.stamp ## the suite, and some of the peers, on the oldest versions allowed
	$(floors)/bin/pytest $(PYTEST_ARGS) $(TESTS)
	$(floors)/bin/pytest $(PYTEST_ARGS) -m "peers and floors" tests/peers

installs: $(call needs,test) ## the tests of installing, with every Python of this machine
	$(bin)/python tools/installs.py

steady: $(call needs,dev) ## the suite in random order, under load and other circumstances; an hour
	$(bin)/python tools/steady.py $(STEADY)

coverage: $(call needs,dev) ## the lines that `make nojit` runs (the JIT hides them from coverage)
	NUMBA_DISABLE_JIT=1 $(bin)/coverage run -m pytest $(NOJIT_TESTS)
	$(bin)/coverage report

doctest: $(wheel)/.stamp ## the examples in the docstrings, on the built wheel
	cd $(wheel) && $(bin)/pytest -c $(CURDIR)/pyproject.toml --rootdir=. -p no:cacheprovider \
	  --doctest-modules --doctest-ignore-import-errors fastmaml

peers: $(call needs,peers) ## the results against and in JAX (and PyTorch where it is installed)
	$(bin)/pytest $(PYTEST_ARGS) -m peers tests/peers

fuzz: $(call needs,test) ## random calls and damaged files, two minutes; longer: make fuzz SEED=7 TIMES=20
	FUZZ_SEED=$(SEED) FUZZ_TIMES=$(TIMES) $(bin)/pytest $(PYTEST_ARGS) -m fuzz tests/fuzz

lint: $(call needs,dev) $(wheel)/.stamp ## ruff, import rules, types
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	cd $(wheel) && $(bin)/lint-imports --no-cache --config $(CURDIR)/pyproject.toml
	cd $(wheel) && $(bin)/mypy --config-file $(CURDIR)/pyproject.toml \
	  --cache-dir $(CURDIR)/.mypy_cache -p fastmaml
	$(bin)/mypy --cache-dir .mypy_cache docs/*.py docs/_ext/*.py

format: $(call needs,dev) ## let ruff format the code and mend what it can
	$(bin)/ruff format .
	$(bin)/ruff check --fix .

docs: $(call needs,docs) ## the site, in docs/_build/html: pages, reference and examples, warnings are errors
	$(bin)/python -m sphinx -W --keep-going --quiet --jobs auto $(SPHINX) \
	  -d docs/_build/doctrees docs $(site)
	@echo "file://$(abspath $(site))/index.html"

docs-open: docs ## the site in a browser
	$(bin)/python -m webbrowser "file://$(abspath $(site))/index.html"

docs-check: docs ## links, anchors and pictures of the site; docstrings; Chromium, where there is one
	$(bin)/python docs/check.py $(site)
	$(bin)/python docs/browser.py $(site)

bench: $(call needs,bench) ## every asv suite on the current commit (under an hour)
	$(bin)/asv machine --yes > /dev/null
	$(bin)/asv run --show-stderr --bench '$(BENCH)' 'HEAD^!'

bench-check: $(call needs,bench) ## do the asv suites still run? one quick round on the working tree
	$(bin)/asv machine --yes > /dev/null
	$(bin)/asv check --python=same
	$(bin)/asv run --quick --show-stderr --python=same --bench '$(BENCH)'

compare: $(call needs,compare) ## times against JAX and other peers: a table and a chart
	$(bin)/python -m benchmarks.compare

sweep: $(call needs,compare) ## curves of fastmaml and JAX over tasks, width, rows and steps
	$(bin)/python -m benchmarks.sweep

real: $(call needs,experiments) ## ours and others on real repeated measures; tables, and a picture in real-out/
	$(bin)/python -m experiments.real_tables --out real-out

clean: ## remove what the targets made, except the environment
	rm -rf build dist docs/_build docs/gallery docs/reference/generated .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find fastmaml kernels tests benchmarks examples -name __pycache__ -exec rm -rf {} +

$(bin)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.extra-%: pyproject.toml | $(bin)/python
	$(bin)/python -m pip install --quiet --editable '.[$*]'
	@touch $@

# An environment of its own, with the floors as constraints.
$(floors)/.stamp: pyproject.toml tools/floors.py | $(call needs,test)
	rm -rf $(floors)
	$(bin)/python -m venv $(floors)
	$(bin)/python tools/floors.py --here test peers > $(floors)/constraints.txt
	$(floors)/bin/python -m pip install --quiet --constraint $(floors)/constraints.txt \
	  --editable '.[test,peers]'
	@touch $@

# The package as users get it. Built from a source archive, so that nothing left lying in build/ can
# slip in; unpacked beside the environment, whose editable install stays as it is.
$(wheel)/.stamp: $(call needs,test) pyproject.toml README.md LICENSE $(sources)
	rm -rf $(wheel) build/dist
	$(bin)/python -m build --no-isolation --outdir build/dist . > build.log 2>&1 \
	  || { cat build.log; exit 1; }
	@rm -f build.log
	$(bin)/python -m pip install --quiet --no-deps --target $(wheel) build/dist/*.whl
	@touch $@
