# `make` alone says what there is. A Python of your choice: make PYTHON=python3.12 demo

PYTHON ?= python3
PYTEST_ARGS ?= -n auto --dist loadfile
IMAGE ?= beam-dedup

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Stamps: what .venv holds is as new as the files that describe it.
RUN_STAMP := .venv/.run-installed
DEV_STAMP := .venv/.dev-installed
CODE := beam_dedup transforms

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-all services check format image pins clean

help: ## say what there is
	@echo "make TARGET, where TARGET is one of:"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(RUN_STAMP) ## install, make sample pictures, deduplicate them, say where to look
	@echo "making sample pictures in demo/pictures"
	@$(BIN)/python -m beam_dedup.samples demo/pictures
	$(BIN)/dedup -n -i demo/pictures -d demo/unique -s \
		--records demo/records.jsonl --counts demo/counts.json -o demo/image_locations.json
	@echo
	@echo "Where to look:"
	@echo "  demo/pictures              the sample pictures, as they were and as they stay"
	@echo "  demo/unique                every picture once; its duplicates under demo/unique/_duplicates"
	@echo "  demo/records.jsonl         the verdict on each file, one JSON object a line"
	@echo "  demo/counts.json           the counts"
	@echo "  demo/image_locations.json  the groups, the kept picture first"
	@echo "Your own pictures:  $(BIN)/dedup -n -i FOLDER -d unique -s"

test: $(DEV_STAMP) ## install what tests need, run them but the slow ones (PYTEST_ARGS='-k name' for some)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-all: PYTEST_ARGS += --slow
test-all: test ## the same with the slow ones (worker processes, stores, kills, Flink: half an hour)

services: ## get the servers of tests/services, as far as this machine allows (Go or pip, apt)
	@PYTHON="$(PYTHON)" .ci/services

check: $(DEV_STAMP) ## formatting, lint and types; changes nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(DEV_STAMP) ## format the code and mend what lint can mend
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

# In a folder of their own, so that nothing goes into them that was not meant to.
image: ## build the image of workers, and that of the Dataflow template (needs Docker; IMAGE=name)
	@docker info >/dev/null 2>&1 || { echo "There is no Docker here that answers: build the images where there is one" \
		"(their steps are tested all the same: make test-all PYTEST_ARGS='tests/test_images.py')" >&2; exit 1; }
	$(need_python)
	@rm -rf build/image
	PYTHON="$(PYTHON)" templates/image/context.sh build/image
	docker build --file templates/image/Dockerfile --tag "$(IMAGE)" build/image
	docker build --file templates/dataflow/Dockerfile --build-arg WORKER="$(IMAGE)" --tag "$(IMAGE)-dataflow" build/image

clean: ## remove everything that make made, .venv and demo included
	rm -rf .venv .ci/tools demo build dist beam_dedup.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find beam_dedup transforms tests -name __pycache__ -type d -prune -exec rm -rf {} +

# One clear sentence instead of a traceback out of venv or a refusal out of pip.
define need_python
	@command -v "$(PYTHON)" >/dev/null 2>&1 || { \
		echo "There is no $(PYTHON) here: install Python 3.11, 3.12 or 3.13 (Debian, Ubuntu:" \
			"apt-get install python3 python3-venv), or name it: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null || { \
		echo "$(PYTHON) is $$("$(PYTHON)" --version 2>&1 | head -n 1), but Python 3.11, 3.12 or 3.13 is needed:" \
			"install one and name it, as in make PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) lacks venv: install it (Debian, Ubuntu: apt-get install python3-venv)" >&2; exit 1; }
endef

# --clear: nothing of an older list of requirements stays behind.
$(RUN_STAMP): requirements.txt setup.py
	$(need_python)
	@echo "installing into .venv (about a minute)"
	@"$(PYTHON)" -m venv --clear .venv
	@$(PIP) install -r requirements.txt
	@$(PIP) install --no-deps -e .
	@touch $@

$(DEV_STAMP): requirements-dev.txt $(RUN_STAMP)
	@echo "installing what tests and checks need into .venv"
	@$(PIP) install -r requirements-dev.txt
	@touch $@

# The newest of everything that setup.py admits, found in an empty environment of the oldest Python we support: what
# installs there has so far installed on the newer ones too. The other way round it does not hold.
pins: ## write all requirements*.txt anew (needs Python 3.11)
	$(need_python)
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { \
		echo "pins are made with the oldest Python supported: make PYTHON=python3.11 pins" >&2; exit 1; }
	@echo "installing into an empty environment (about a minute)"
	@set -e; export LC_ALL=C PIP_DISABLE_PIP_VERSION_CHECK=1; \
	tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; python="$$tmp/venv/bin/python"; \
	mkdir "$$tmp/project"; cp setup.py pyproject.toml LICENSE "$$tmp/project"; \
	"$(PYTHON)" -m venv "$$tmp/venv"; \
	"$$python" -m pip install --quiet "$$tmp/project"; \
	"$$python" -m pip freeze --exclude beam-dedup | sort -f >"$$tmp/run"; \
	{ echo "# All that runs, exactly. Made by 'make pins' from the ranges in setup.py: do not edit."; \
		cat "$$tmp/run"; } >requirements.txt; \
	"$$python" -m pip install --quiet -r requirements.txt "$$tmp/project[aws,gcp,heif]"; \
	"$$python" -m pip freeze --exclude beam-dedup | sort -f | grep -vxFf "$$tmp/run" >"$$tmp/image"; \
	{ echo "# What the extras [aws,gcp,heif] bring into the images besides. Made by 'make pins' from the ranges in setup.py: do not edit."; \
		cat "$$tmp/image"; } >templates/image/requirements.txt; \
	"$$python" -m pip install --quiet -r requirements.txt -r templates/image/requirements.txt "$$tmp/project[dev]"; \
	"$$python" -m pip freeze --exclude beam-dedup | sort -f | grep -vxFf "$$tmp/run" >"$$tmp/dev"; \
	{ echo "# What tests and checks need besides. Made by 'make pins' from the ranges in setup.py: do not edit."; \
		echo "-r requirements.txt"; cat "$$tmp/dev"; } >requirements-dev.txt
	@grep -c == requirements.txt templates/image/requirements.txt requirements-dev.txt
