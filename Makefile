# `make help` lists the targets. Each one that needs the environment makes it first.
# Needed beforehand: Python 3.11 or newer with pip, make, and gcc with Python's headers
# (without those two NumPy does the work of the kernels, slower).

PYTHON ?= $(shell command -v python3.11 || command -v python3)
# The whole torch requirement and any pip arguments; a machine with a GPU may want another build.
TORCH ?= torch==2.13.0
VENV ?= .venv
# Where atheris has wheels.
ATHERIS := sys_platform == "linux" and platform_machine == "x86_64" and python_version < "3.14"

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
KERNELS := $(wildcard dsqformat/kernels/*.py dsqformat/kernels/*.pxd)
PINS := $(VENV)/pins.txt
DEPS := $(VENV)/.stamp-deps
INSTALLED := $(VENV)/.stamp-install
CHECKED := build/checked/.stamp
SANITIZED := build/sanitized/.stamp
VECTORS := $(wildcard tests/format/test_vectors.py)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo figures check test soak bench bench-codec build checked pin clean distclean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

setup: $(INSTALLED)  ## Make .venv with everything in it (TORCH=, PYTHON= override)

demo: $(INSTALLED)  ## Pack, serve, stream and train on real photographs (under 3 minutes)
	$(BIN)/dsq demo

figures: $(INSTALLED)  ## Measure demo and codecs again for the README (DSQ_DATA=; half an hour)
	$(BIN)/dsq demo --out docs/demo
	for set in tiles pictures; do $(BIN)/dsq bench codec --sets $$set \
	  --csv docs/bench/$$set.csv --plot docs/bench/$$set.svg > docs/bench/$$set.txt || exit 1; done
	$(BIN)/python docs/demo_table.py
	$(BIN)/python docs/codec_table.py

check: $(INSTALLED)  ## Lint, types, import rules, spec vectors (under 1 minute)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(if $(VECTORS),$(BIN)/pytest $(VECTORS))

test: $(INSTALLED) $(CHECKED) $(SANITIZED)  ## All tests at everyday counts (under 10 minutes on 2 cores)
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

soak: $(INSTALLED) $(CHECKED) $(SANITIZED)  ## All tests at full counts
	DSQ_SOAK=1 $(BIN)/pytest -m "not bench" -o faulthandler_timeout=3600

bench-codec: $(INSTALLED)  ## Bytes and speed beside picture codecs (DSQ_DATA=, ARGS=; an hour)
	$(BIN)/dsq bench codec $(ARGS)

bench: $(INSTALLED)  ## Measure speeds and ratios
	$(BIN)/pytest -m bench -s tests/benchmarks

build: $(INSTALLED)  ## Build the sdist and the wheel into dist/
	$(BIN)/python -m build --no-isolation

checked: $(CHECKED)  ## Build the kernels with bounds checks into build/checked

sanitized: $(SANITIZED)  ## Likewise, with the sanitizers of gcc or clang, into build/sanitized

pin: $(INSTALLED)  ## Write the versions in .venv to constraints.txt
	@{ sed -n '/^#/p' constraints.txt; $(PIP) freeze --all --exclude pip --exclude-editable \
	  | sed -e 's/^torch==\([0-9.]*\).*/torch==\1/' -e '/^atheris==/s/$$/; $(ATHERIS)/'; \
	} > $(VENV)/pinned.txt
	mv $(VENV)/pinned.txt constraints.txt

clean:  ## Remove what was built; keep .venv
	rm -rf build dist .demo .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	rm -rf dsqformat.egg-info dsqformat/kernels/*.so $(INSTALLED)

distclean: clean  ## Remove .venv too
	rm -rf $(VENV)

$(DEPS): constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make: $(PYTHON) is older than Python 3.11; name another with PYTHON="; exit 1; }
	@echo "Making $(VENV) with $(PYTHON)."
	@echo "About to download, unless pip has it cached:"
	@echo "  $(TORCH)"
	@echo "      CPU build: about 190 MB. The default Linux x86-64 build of the public index"
	@echo "      comes with CUDA: about 3 GB. To choose: make TORCH='torch==2.13.0 --index-url ...'"
	@echo "  the other packages in constraints.txt: about 200 MB"
	@$(PYTHON) -m venv $(VENV) 2>/dev/null || { \
	  $(PYTHON) -m venv --clear --without-pip $(VENV) && \
	  $(PYTHON) -m pip --python $(BIN)/python install -q pip; }
	@grep -v '^torch==' constraints.txt > $(PINS)
	$(PIP) install -q -c $(PINS) $(TORCH)
	$(PIP) install -q -r $(PINS)
	@touch $@

$(INSTALLED): $(DEPS) pyproject.toml setup.py dsqformat/_version.py $(KERNELS)
	$(PIP) install -q --no-build-isolation --no-deps --editable .
	@$(PIP) check
	@ls dsqformat/kernels/*.so >/dev/null 2>&1 || \
	  echo "make: the kernels were not compiled (no C compiler or no Python.h); all works, slower"
	@touch $@

# Without a compiler, or one that has no sanitizers, the tests that need them are skipped.
$(CHECKED) $(SANITIZED): build/%/.stamp: $(DEPS) setup.py $(KERNELS)
	DSQ_KERNELS=$* $(BIN)/python setup.py -q build_ext --build-temp build/temp-$* --build-lib build/$*
	@mkdir -p $(@D)
	@touch $@
