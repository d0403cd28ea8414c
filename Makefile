# Commands for developers. They need make and Python 3.11 or newer; all else goes into .venv.
#   make test ARGS="-k markers"        arguments of the command that the target runs
#   make soak SOAK=files ARGS="--number 20000"
#   make demo PYTHON=python3.12        another Python than the first suitable one

VENV = .venv
BIN = $(VENV)/bin
PYTHON =
ARGS =
SOAK = files kills monkey rounds

.PHONY: help demo test lint soak docs pictures bench-quality bench-strokes bench-borders bench-speed bench-window bench-gpu bench-scale wheel clean FORCE
# One pip at a time, also with -j
.NOTPARALLEL:

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1	\2/p' Makefile | expand -t 24

demo: $(VENV)/.demo ## train on real images, segment them, write out/demo (and open napari)
	$(BIN)/napari-aeseg demo --output out/demo $(ARGS)

# One process per core; ARGS="-n 0" for a debugger. Bytecode is always written: without it, every
# process compiles the tests and napari again, which takes longer than most tests.
test: $(VENV)/.test ## run all tests (in Xvfb without a display)
	PYTHONDONTWRITEBYTECODE= $(BIN)/python tools/with_display $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist worksteal $(ARGS)

lint: $(VENV)/.dev ## check style and types
	$(BIN)/ruff check . tools/with_display
	$(BIN)/ruff format --check . tools/with_display
	$(BIN)/mypy

docs: $(VENV)/.docs ## build the documentation as a site, out/site; warnings are errors
	PATH="$(abspath $(BIN)):$$PATH" NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict $(ARGS)

pictures: $(VENV)/.demo ## make the pictures of the README and docs again
	$(BIN)/python tools/with_display $(BIN)/python docs/make_pictures.py $(ARGS)

soak: $(VENV)/.test ## damaged files, kills, random clicks, long use (hours); one: SOAK=kills
	for name in $(SOAK); do \
	  $(BIN)/python tools/with_display $(BIN)/python soak/$$name.py $(ARGS) || exit 1; \
	done

bench-quality: $(VENV)/.bench ## compare results with other methods
	$(BIN)/python benchmarks/quality.py $(ARGS)

bench-strokes: $(VENV)/.bench ## classes from strokes beside a random forest: ARGS="FOLDER ..."
	$(BIN)/python benchmarks/strokes.py $(ARGS)

bench-borders: $(VENV)/.bench ## borders at pixel resolution beside those of patches: ARGS="FOLDER ..."
	$(BIN)/python benchmarks/borders.py $(ARGS)

bench-speed: $(VENV)/.bench ## compare times and memory with other methods
	$(BIN)/python benchmarks/speed.py $(ARGS)

bench-window: $(VENV)/.bench ## how responsive a real window is during work
	$(BIN)/python tools/with_display $(BIN)/python benchmarks/window.py $(ARGS)

bench-gpu: $(VENV)/.bench ## speed of a GPU compared with its limits, and whether results are equal
	$(BIN)/python benchmarks/gpu.py $(ARGS)

bench-scale: $(VENV)/.bench ## how time and memory grow with the image, and the gain by a cluster
	$(BIN)/python benchmarks/scale.py $(ARGS)

wheel: $(VENV)/.test ## build dist/*.whl and the source archive
	$(BIN)/python -m build --no-isolation $(ARGS)

clean: ## remove generated files, except .venv
	rm -rf out dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
	find . -name .venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: .venv/.GROUP is newer than the files it was installed from.
$(VENV)/.demo $(VENV)/.test $(VENV)/.bench $(VENV)/.docs $(VENV)/.dev: $(VENV)/.place pyproject.toml constraints.txt
	@group=$@; group=$${group##*.}; \
	echo "installing napari-aeseg and the group $$group into $(VENV)"; \
	$(BIN)/python -m pip install -c constraints.txt -e . --group $$group
	@touch $@

# .venv is made again if its Python is missing or too old, if PYTHON names another one, or if
# the checkout was moved (its scripts contain full paths); .place changes only then.
$(VENV)/.place: FORCE
	@facts='import sys, ensurepip; assert sys.version_info >= (3, 11); print(sys.base_prefix, sys.version)'; \
	facts_of() { "$$1" -c "$$facts" 2>/dev/null; }; \
	python="$(PYTHON)"; \
	if [ -z "$$python" ]; then \
	  for python in $(BIN)/python python3.11 python3.12 python3.13 python3.14 python3 none; do \
	    facts_of $$python >/dev/null && break; \
	  done; \
	fi; \
	wanted=`facts_of "$$python"` || { \
	  echo "no Python 3.11 or newer that can make a venv. Install one, or name it:" >&2; \
	  echo "  make PYTHON=/path/to/python3.12 test    (Debian and Ubuntu: apt-get install python3-venv)" >&2; \
	  exit 1; }; \
	place=`cat $@ 2>/dev/null || pwd`; \
	if [ "`facts_of $(BIN)/python`" != "$$wanted" ] || [ "$$place" != "`pwd`" ]; then \
	  echo "making $(VENV) with Python $$wanted"; \
	  "$$python" -m venv --clear $(VENV) || exit 1; \
	fi; \
	[ -f $@ ] && exit 0; \
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip; \
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1' || { \
	  echo "pip 25.1 or newer is needed for dependency groups and could not be installed" >&2; exit 1; }; \
	pwd > $@

FORCE:
