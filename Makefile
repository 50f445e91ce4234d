# Install, reproduce, verify and test xlt. `make` alone lists the targets.

PYTHON  ?= python3
VENV    ?= .venv
RESULTS ?= results
TIER    ?= smoke
ARGS    ?=
# What is installed: the checkout, which goes on to be edited, or a wheel.
PACKAGE ?= --editable .
WORKERS ?= 2
DOCKER  ?= docker

UV    := uv==0.13.8
LOCKS := artifact/lock
BIN   := $(VENV)/bin
RELEASE := build/release
PIP   := $(BIN)/python -m pip --disable-pip-version-check
LOCKED := sh $(LOCKS)/install.sh $(BIN)/python

.DEFAULT_GOAL := help
.PHONY: help install reproduce verify report expected golden statistics world test mutants fuzz soak lint lock image image-cpu lock-check image-check release-check clean

define PREREQUISITES
import os, shutil, sys, sysconfig
lacking = []
if sys.version_info < (3, 11):
    lacking.append("Python 3.11 or newer: this one is %d.%d (another: make install PYTHON=python3.12)" % sys.version_info[:2])
try:
    import ensurepip, venv
except ImportError:
    lacking.append("Python's venv module with ensurepip")
if not os.path.isfile(os.path.join(sysconfig.get_paths()["include"], "Python.h")):
    lacking.append("Python's headers (Python.h)")
if not shutil.which(os.environ.get("CXX", "c++").split()[0]):
    lacking.append("a C++ compiler (g++)")
if lacking:
    sys.exit("\n  - ".join(["This machine lacks what xlt is built with:"] + lacking)
             + "\nOn Debian or Ubuntu: apt-get install python3-venv python3-dev g++ make")
endef
export PREREQUISITES

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "  TIER=$(TIER) RESULTS=$(RESULTS) VENV=$(VENV) PYTHON=$(PYTHON) WORKERS=$(WORKERS) can be set on the command line;"
	@echo "  ARGS='...' adds options to reproduce, verify, report (of xlt), test (of pytest), mutants (names), fuzz, soak, lock (of uv) and image (of docker build)."

install: $(VENV)/.installed ## make .venv: torch, the locked dependencies, xlt

$(VENV)/.installed: $(wildcard $(LOCKS)/*.sh) $(addprefix $(LOCKS)/,build.lock torch-cpu.lock cpu.lock gpu.lock) pyproject.toml
	@command -v $(PYTHON) >/dev/null || \
	  { echo "$(PYTHON) was not found; on Debian or Ubuntu: apt-get install python3-venv python3-dev g++ make" >&2; exit 1; }
	@$(PYTHON) -c "$$PREREQUISITES"
	@echo "Installing into $(VENV) what $(LOCKS) holds, one or two minutes, longer where torch comes for CUDA ..."
	@$(PYTHON) -m venv $(VENV)
	@$(LOCKED) cpu
	@$(PIP) install --quiet --no-deps --no-build-isolation $(PACKAGE)
	@$(PIP) check
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed $(LOCKS)/dev.lock
	@echo "Installing the tools of $(LOCKS)/dev.lock ..."
	@$(LOCKED) dev
	@touch $@

reproduce: install ## train, evaluate, verify and report the tier TIER; the same command resumes
	$(BIN)/xlt reproduce --tier $(TIER) --results $(RESULTS) $(ARGS)

verify: install ## recompute every number of results/ from its predictions and judge the claims
	$(BIN)/xlt verify --results $(RESULTS) $(ARGS)

report: install ## write results/report/index.html
	$(BIN)/xlt report --results $(RESULTS) $(ARGS)

expected: install ## write EXPECTED_RESULTS.md, artifact/APPENDIX.md, LICENCES.md, artifact/capsule and the schema of report.json from what they describe
	$(BIN)/python -m artifact.documents.expected > EXPECTED_RESULTS.new && mv EXPECTED_RESULTS.new EXPECTED_RESULTS.md
	$(BIN)/python -m artifact.documents.appendix > artifact/APPENDIX.new && mv artifact/APPENDIX.new artifact/APPENDIX.md
	$(BIN)/python -m artifact.documents.licences > artifact/LICENCES.new && mv artifact/LICENCES.new artifact/LICENCES.md
	$(BIN)/python -m artifact.documents.capsule
	$(BIN)/python -m xlt.verify.report > artifact/schema/report.new && mv artifact/schema/report.new artifact/schema/report.schema.json

world: install ## write the data set of the constructed world, artifact/world, with its generator
	$(BIN)/python -m artifact.world.generator

golden: install ## compute in fp64 what artifact/golden/model must give, the golden evidence; minutes
	$(BIN)/python -m artifact.documents.golden

statistics: install ## write artifact/STATISTICS.md: how often a verdict is wrong, simulated; minutes
	$(BIN)/python -m artifact.documents.simulation > artifact/STATISTICS.new && mv artifact/STATISTICS.new artifact/STATISTICS.md

test: $(VENV)/.installed-dev ## run the tests, in WORKERS processes
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist loadfile $(ARGS)

# Not among the locked tools: nothing of the project needs it, and no other target installs it.
mutants: $(VENV)/.installed-dev ## plant small faults in verify, evaluate and the store, to see which no test finds; hours
	@$(PIP) install --quiet mutmut==3.8.1
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/mutmut run --max-children $(WORKERS) $(ARGS)
	$(BIN)/mutmut results

# Nor this one, for the same reason.
fuzz: $(VENV)/.installed-dev ## damage the files of every reader under a coverage-guided fuzzer, 20 s each; ARGS='--seconds 60 NAME'
	@$(PIP) install --quiet atheris==3.0.0
	$(BIN)/python -m tests.fuzz $(ARGS)

soak: $(VENV)/.installed-dev ## kill, stop, starve and damage the smoke tier at random, half an hour; ARGS=--short: a tier of a few steps
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m tests.soak $(ARGS)

lint: $(VENV)/.installed-dev ## check style, types, which room imports which, and the Dockerfile
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/hadolint Dockerfile

# gpu.lock holds everything; cpu.lock leaves out torch and what only its CUDA build needs. torch's CPU builds have an index
# of their own, which the others are never resolved by: TORCH_INDEX=ADDRESS, else torch-cpu.lock stays as it is.
lock: ## resolve artifact/lock/*.in again; keeps what still fits, ARGS=--upgrade takes the newest
	@set -e; tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; \
	$(PYTHON) -m venv "$$tmp/venv"; \
	"$$tmp/venv/bin/python" -m pip --disable-pip-version-check install --quiet $(UV); \
	resolve() { \
	  name=$$1; leave_out=$$2; shift 2; cp $(LOCKS)/$$name.lock "$$tmp/$$name.lock" 2>/dev/null || true; \
	  "$$tmp/venv/bin/uv" pip compile --quiet --no-config --no-header --no-annotate --generate-hashes \
	    --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
	    $(LOCKS)/$$name.in "$$@" $(ARGS) --output-file "$$tmp/$$name.lock" >/dev/null; \
	  { echo "# Resolved from $$name.in by 'make lock', for Linux x86-64 and Python 3.11 and newer."; \
	    awk -v drop="^($$leave_out)" '/^[a-z]/ { keep = $$0 !~ drop } keep' "$$tmp/$$name.lock"; \
	  } > $(LOCKS)/$$name.lock; \
	  echo "$(LOCKS)/$$name.lock: $$(grep -c '^[a-z]' $(LOCKS)/$$name.lock) packages"; \
	}; \
	resolve gpu '$$'; \
	resolve cpu 'torch==|triton==|cuda-|nvidia-' --constraints $(LOCKS)/gpu.lock; \
	resolve build '$$' --constraints $(LOCKS)/cpu.lock; \
	resolve dev '$$' --constraints $(LOCKS)/cpu.lock; \
	resolve sbom '$$'; \
	test -z "$(TORCH_INDEX)" || resolve torch-cpu '$$' --no-deps --index $(TORCH_INDEX)

# COMMIT as xlt names it: with +changes if files differ from it. SOURCE is where you publish this project, for the labels.
image image-cpu: COMMIT = $(shell git describe --always --abbrev=40 --exclude='*' --dirty=+changes 2>/dev/null)
image image-cpu: BUILD = $(DOCKER) build $(if $(BASE),--build-arg BASE=$(BASE)) --build-arg COMMIT=$(COMMIT) \
	$(if $(PIP_EXTRA_INDEX_URL),--build-arg PIP_EXTRA_INDEX_URL) --build-arg CREATED=$(shell date -u +%Y-%m-%dT%H:%M:%SZ) \
	$(if $(SOURCE),--label org.opencontainers.image.source=$(SOURCE) --label org.opencontainers.image.documentation=$(SOURCE))
image: image-cpu ## build the container images, xlt:latest for a GPU and xlt:cpu; BASE=IMAGE@sha256:DIGEST; DOCKER=podman
	$(BUILD) --build-arg VARIANT=gpu --tag xlt:gpu --tag xlt:latest $(ARGS) .

image-cpu: ## build xlt:cpu alone
	@command -v $(firstword $(DOCKER)) >/dev/null || \
	  { echo "'$(DOCKER)' was not found: install Docker, or name another such program: make image DOCKER=podman" >&2; exit 1; }
	$(BUILD) --build-arg VARIANT=cpu --tag xlt:cpu $(ARGS) .

# What the images are built from, as far as it goes without a GPU and without downloading what is locked.
lock-check: ## resolve gpu.lock with all that its packages ask for, for Python 3.11 to 3.14, without installing it
	@set -e; tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; \
	$(PYTHON) -m venv "$$tmp/venv"; \
	"$$tmp/venv/bin/python" -m pip --disable-pip-version-check install --quiet $(UV); \
	for version in 3.11 3.12 3.13 3.14; do \
	  "$$tmp/venv/bin/uv" pip install --dry-run --quiet --no-config --require-hashes --target "$$tmp/none" \
	    --python-version $$version --python-platform x86_64-manylinux_2_28 -r $(LOCKS)/gpu.lock; \
	  echo "$(LOCKS)/gpu.lock resolves for Python $$version"; \
	done

image-check: lock-check ## build xlt:cpu without Docker and try it: no network, no root, read-only, stopped; ARGS=--short: a tier of a few steps
	$(PYTHON) -m artifact.image.check $(if $(BASE),--base $(BASE)) $(ARGS)

# Away from the checkout, whose modules and data would hide what a wheel lacks.
release-check: install ## build source archive and wheel, and run the smoke tier from the wheel in an environment of its own
	rm -rf $(RELEASE) && mkdir -p $(RELEASE)
	$(BIN)/python -c "from setuptools import build_meta; build_meta.build_sdist('$(RELEASE)')"
	$(PIP) wheel --quiet --no-deps --no-build-isolation --wheel-dir $(RELEASE) $(RELEASE)/xlt-*.tar.gz
	$(MAKE) install VENV=$(RELEASE)/venv PACKAGE="$(RELEASE)/xlt-*.whl"
	cd $(RELEASE) && unset PYTHONPATH XLT_ARTIFACT && venv/bin/xlt version && venv/bin/xlt tasks ls \
	  && venv/bin/xlt plan --results results && venv/bin/xlt reproduce --results results $(ARGS)

clean: ## remove .venv and what the tools cached; results stay
	test ! -f $(VENV)/pyvenv.cfg || rm -rf $(VENV)
	rm -rf build mutants xlt.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find xlt kernels artifact tests -name __pycache__ -type d -prune -exec rm -rf {} +
