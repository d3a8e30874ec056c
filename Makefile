# `make` alone lists the targets. To use another Python: make PYTHON=python3.12 demo

PYTHON ?= python3
PYTEST_ARGS ?= -n auto --dist loadfile --no-loadscope-reorder
IMAGE ?= beam-dedup
# Google's launcher of Dataflow templates; better NAME@sha256:... than a tag, which may change its content.
LAUNCHER ?= gcr.io/dataflow-templates-base/python311-template-launcher-base:latest
# The environment into which requirements are installed, and in which tests and checks run.
VENV ?= .venv

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Stamps: an environment older than a file that describes it is updated.
RUN_STAMP := $(VENV)/.run-installed
DEV_STAMP := $(VENV)/.dev-installed
# Beam's extra gcp needs this version on Python 3.13, where the one that `make pins` finds with Python 3.11 cannot be imported.
APITOOLS_3_13 := google-apitools==0.5.35

# The many processes that tests start would compile all modules each time.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-all services check format image pins clean

help: ## list the targets
	@echo "make TARGET, where TARGET is one of:"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(RUN_STAMP) ## install, make sample pictures, deduplicate them, print where the results are
	@echo "making sample pictures in demo/pictures"
	@$(BIN)/python -m beam_dedup.samples demo/pictures
	$(BIN)/dedup -n -i demo/pictures -d demo/unique -s \
		--records demo/records.jsonl --counts demo/counts.json -o demo/image_locations.json
	@echo
	@echo "Where to look:"
	@echo "  demo/pictures              the sample pictures, unchanged"
	@echo "  demo/unique                one copy of every picture; its duplicates are in demo/unique/_duplicates"
	@echo "  demo/records.jsonl         the verdict on each file, one JSON object per line"
	@echo "  demo/counts.json           the counts"
	@echo "  demo/image_locations.json  the groups of duplicates; the kept picture comes first"
	@echo "Your own pictures:  $(BIN)/dedup -n -i DIRECTORY -d unique -s"

test: $(DEV_STAMP) ## run all tests except the slow ones (some of them: PYTEST_ARGS='-k name')
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-all: PYTEST_ARGS += --slow
test-all: test ## run the slow tests as well: worker processes, object stores, kills, Flink (half an hour)

services: ## install the servers that tests/services use, where possible (with Go or pip, Maven, apt)
	@PYTHON="$(PYTHON)" .ci/services

check: $(DEV_STAMP) ## check formatting, lint and types; changes no file
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(DEV_STAMP) ## format the code and apply the fixes that lint offers
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

# Built in an empty directory, so that no other file gets into the images.
image: ## build the worker image and the Dataflow template image (needs Docker; IMAGE=name)
	@docker info >/dev/null 2>&1 || { echo "Docker is missing or does not answer: build the images on a machine that has it" \
		"(make test-all PYTEST_ARGS='tests/test_images.py' tests the build steps without it)" >&2; exit 1; }
	$(need_python)
	@rm -rf build/image
	PYTHON="$(PYTHON)" templates/image/context.sh build/image
	docker build --file templates/image/Dockerfile --tag "$(IMAGE)" build/image
	docker build --file templates/dataflow/Dockerfile --build-arg WORKER="$(IMAGE)" --build-arg LAUNCHER="$(LAUNCHER)" --tag "$(IMAGE)-dataflow" build/image

clean: ## remove all that make has created, including .venv and demo
	rm -rf .venv .ci/tools .ci/venv demo build dist beam_dedup.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find beam_dedup transforms tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Prints one line where venv would print a traceback, or pip a refusal.
define need_python
	@command -v "$(PYTHON)" >/dev/null 2>&1 || { \
		echo "There is no program $(PYTHON): install Python 3.11, 3.12 or 3.13 (Debian, Ubuntu:" \
			"apt-get install python3 python3-venv), or name its program: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null || { \
		echo "$(PYTHON) is $$("$(PYTHON)" --version 2>&1 | head -n 1), but Python 3.11, 3.12 or 3.13 is needed:" \
			"install one and name its program: make PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) has no module venv: install it (Debian, Ubuntu: apt-get install python3-venv)" >&2; exit 1; }
endef

# --clear removes packages that are no longer required.
$(RUN_STAMP): requirements.txt setup.py
	$(need_python)
	@echo "installing into $(VENV) (about a minute)"
	@"$(PYTHON)" -m venv --clear $(VENV)
	@$(PIP) install -r requirements.txt
	@$(PIP) install --no-deps -e .
	@touch $@

$(DEV_STAMP): requirements-dev.txt $(RUN_STAMP)
	@echo "installing the packages for tests and checks into $(VENV)"
	@$(PIP) install -r requirements-dev.txt
	@touch $@

# Pins the newest versions that setup.py admits, found in an empty environment of the oldest supported Python: with the
# exception above, versions that install there also work on newer Pythons; the reverse does not hold.
pins: ## regenerate all requirements*.txt and hashes.txt (needs Python 3.11)
	$(need_python)
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { \
		echo "pins need the oldest supported Python: make PYTHON=python3.11 pins" >&2; exit 1; }
	@echo "installing into an empty environment (about a minute)"
	@set -e; export LC_ALL=C PIP_DISABLE_PIP_VERSION_CHECK=1; \
	tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; python="$$tmp/venv/bin/python"; \
	mkdir "$$tmp/project"; cp setup.py pyproject.toml LICENSE "$$tmp/project"; \
	"$(PYTHON)" -m venv "$$tmp/venv"; \
	"$$python" -m pip install --quiet "$$tmp/project"; \
	"$$python" -m pip freeze --exclude beam-dedup | sort -f >"$$tmp/run"; \
	{ echo "# The exact versions of the runtime dependencies. Generated by 'make pins' from the ranges in setup.py: do not edit."; \
		cat "$$tmp/run"; } >requirements.txt; \
	"$$python" -m pip install --quiet -r requirements.txt "$$tmp/project[aws,gcp,heif]"; \
	"$$python" -m pip freeze --exclude beam-dedup | sort -f | grep -vxFf "$$tmp/run" >"$$tmp/image"; \
	{ echo "# The further packages that the extras [aws,gcp,heif] install into the images. Generated by 'make pins' from the ranges in setup.py: do not edit."; \
		cat "$$tmp/image"; } >templates/image/requirements.txt; \
	"$$python" templates/image/lock.py requirements.txt templates/image/requirements.txt >"$$tmp/hashes"; \
	cp "$$tmp/hashes" templates/image/hashes.txt; \
	"$$python" -m pip install --quiet -r requirements.txt -r templates/image/requirements.txt "$$tmp/project[dev]"; \
	"$$python" -m pip freeze --all --exclude pip --exclude beam-dedup | sort -f | grep -vxFf "$$tmp/run" \
		| sed 's/^google-apitools==.*/&; python_version < "3.13"\n$(APITOOLS_3_13); python_version >= "3.13"/' >"$$tmp/dev"; \
	{ echo "# The further packages that tests and checks need. Generated by 'make pins' from the ranges in setup.py: do not edit."; \
		echo "-r requirements.txt"; cat "$$tmp/dev"; } >requirements-dev.txt
	@grep -c == requirements.txt templates/image/requirements.txt requirements-dev.txt
