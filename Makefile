# Everything that is done to this project is done from here; `make` alone says what there is.
# It needs python3 (3.11 or later) with venv, make, and a package index. All of it stays in .venv*.

PYTHON ?= python3
BIN := .venv/bin
# The interpreters that `make test` looks for besides $(PYTHON).
VERSIONS := 3.11 3.12 3.13 3.14 3.15

.PHONY: help demo test lint bench soak real-bugs clean
.DELETE_ON_ERROR:
.NOTPARALLEL:

help:
	@echo "make demo     a block device in the kernel checksums README.md; then a comparison of the configurations"
	@echo "make test     all tests, with $(PYTHON) and with whichever of $(VERSIONS) are installed"
	@echo "make lint     ruff, mypy --strict, and the layers"
	@echo "make bench    speed and size, in all configurations"
	@echo "make soak     random programs and ten thousand connections, in all configurations"
	@echo "make real-bugs  bugs of released packages: found in the old release, gone from the fixed one"
	@echo "make clean    remove the virtual environments and caches"

# -- virtual environments: a stamp for each set of packages, renewed when pyproject.toml changes

.venv/stamp-run: pyproject.toml
	$(call make_venv,$(PYTHON),.venv)
	@touch $@

.venv/stamp-%: .venv/stamp-run
	@echo "== .venv: installing what '$*' needs"
	@$(BIN)/python -m pip install -q --group $*
	@touch $@

# $(1) is the interpreter, $(2) the directory. The pip that comes with an interpreter may not know --group.
define make_venv
@echo "== $(2): creating a virtual environment with $(1)"
@$(1) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=...")'
@$(1) -m venv --clear $(2)
@$(2)/bin/python -m pip install -q --upgrade "pip>=25.1"
@echo "== $(2): installing lkl_green"
@$(2)/bin/python -m pip install -q -e .
endef

# -- what there is to do

demo: .venv/stamp-run
	@echo "== a block device in the kernel: kernel threads checksum README.md, which an OS thread reads"
	$(BIN)/lkl-green run examples/04_block_device.py README.md 512 >.venv/demo.out
	@cat .venv/demo.out
	@echo "== the same by the machine's own means"
	@{ sha256sum README.md 2>/dev/null || $(BIN)/python -c '$(SHA256)' README.md; } | tee .venv/demo.sum
	@grep -q "$$(cut -d' ' -f1 .venv/demo.sum)" .venv/demo.out && echo "== they agree"
	@echo "== the same program in three configurations, in virtual time"
	$(BIN)/lkl-green parity examples/03_init_execs.py

SHA256 = import sys, hashlib; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest(), "", sys.argv[1])

test: .venv/stamp-test .venv/stamp-lint
	@echo "== tests with $$($(BIN)/python --version)"
	@$(BIN)/python -m pytest -q -n auto
	@for version in $(VERSIONS); do $(MAKE) --no-print-directory test-$$version || exit 1; done

lint: .venv/stamp-lint
	@echo "== ruff check"
	@$(BIN)/ruff check
	@echo "== ruff format --check"
	@$(BIN)/ruff format --check
	@echo "== mypy --strict"
	@$(BIN)/mypy
	@echo "== import-linter"
	@$(BIN)/lint-imports

bench: .venv/stamp-bench
	@$(BIN)/python -m benchmarks

LKL_GREEN_EXAMPLES ?= 3000
LKL_GREEN_CUTS ?= 2000
LKL_GREEN_SEARCHED ?= 50000
LKL_GREEN_CONNECTIONS ?= 10000

soak: .venv/stamp-test
	@echo "== $(LKL_GREEN_EXAMPLES) random programs, twice in each configuration"
	@LKL_GREEN_EXAMPLES=$(LKL_GREEN_EXAMPLES) $(BIN)/python -m pytest -q -o faulthandler_timeout=0 \
		tests/test_parity.py -k random
	@echo "== $(LKL_GREEN_CUTS) random programs, run whole and cut up, in each configuration"
	@LKL_GREEN_EXAMPLES=$(LKL_GREEN_CUTS) $(BIN)/python -m pytest -q -o faulthandler_timeout=0 \
		tests/test_cuts.py -k random
	@echo "== $(LKL_GREEN_SEARCHED) random programs searched with and without partial order reduction; large known counts"
	@LKL_GREEN_EXAMPLES=$(LKL_GREEN_SEARCHED) LKL_GREEN_TRACES=20000 $(BIN)/python -m pytest -q \
		-o faulthandler_timeout=0 tests/testing/policies/test_dpor.py
	@LKL_GREEN_EXAMPLES=$(LKL_GREEN_CUTS) $(BIN)/python -m pytest -q -o faulthandler_timeout=0 \
		tests/testing/policies/test_dpor_outcomes.py
	@echo "== $(LKL_GREEN_EXAMPLES) random programs in each event loop"
	@LKL_GREEN_EXAMPLES=$(LKL_GREEN_EXAMPLES) $(BIN)/python -m pytest -q -o faulthandler_timeout=0 tests/embed/test_storm.py
	@echo "== asynchronous exceptions: three kinds at each line, at the first and the last time it is reached"
	@LKL_GREEN_ASYNC_EXCEPTIONS=1 $(BIN)/python -m pytest -q -o faulthandler_timeout=0 tests/kernel/test_async_exceptions.py
	@echo "== $(LKL_GREEN_CONNECTIONS) connections opened and closed, in each configuration"
	@LKL_GREEN_CONNECTIONS=$(LKL_GREEN_CONNECTIONS) $(BIN)/python -m pytest -q -o faulthandler_timeout=0 \
		tests/fs/test_hostsocket.py -k come_and_go

real-bugs: .venv/stamp-run
	@for version in $(VERSIONS); do $(MAKE) --no-print-directory python-$$version || exit 1; done
	@$(BIN)/python -m benchmarks.real_bugs --cache .venv/real-bugs

clean:
	rm -rf .venv .venv-* .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# -- other versions of Python

# An interpreter of version $*: on the PATH if it works (a shim of pyenv may not, and a distribution may leave out
# ensurepip), else the newest that pyenv has.
FIND_PYTHON = for python in python$* $$(ls -d "$${PYENV_ROOT:-$$(pyenv root 2>/dev/null)}"/versions/$*.*/bin/python \
	2>/dev/null | sort -rV); do "$$python" -c 'import ensurepip' 2>/dev/null && echo "$$python" && break; done

.venv-%/stamp: pyproject.toml
	$(call make_venv,$$($(FIND_PYTHON)),.venv-$*)
	@.venv-$*/bin/python -m pip install -q --group test
	@touch $@

# An environment for version $*, if it is installed and is not that of .venv.
python-%: .venv/stamp-run
	@if $(BIN)/python -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] != "$*")' 2>/dev/null || \
	[ -z "$$($(FIND_PYTHON))" ]; then :; else $(MAKE) --no-print-directory .venv-$*/stamp; fi

test-%:
	@if $(BIN)/python -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] != "$*")' 2>/dev/null; then :; \
	elif [ -n "$$($(FIND_PYTHON))" ]; then $(MAKE) --no-print-directory .venv-$*/stamp && \
	echo "== tests with $$(.venv-$*/bin/python --version)" && .venv-$*/bin/python -m pytest -q -n auto -m "not once"; \
	else echo "== Python $* is not installed: its tests are skipped"; fi
