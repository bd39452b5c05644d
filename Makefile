# `make help` says what there is. VENV=... and PYTHON=... choose the environment and the interpreter.
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST ?= -n 2 --dist worksteal
COMPOSE ?= docker compose

.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-newest fuzz lint format types generate pin bench bench-quick soak dev down clean environment suite coverage bundle project pictures docs docs-serve

demo: ## Watch agents build one memory, on a server of their own
	@tools/environment.sh demo
	@$(BIN)/memx demo

test: lint types suite ## Check the style, the types and the generated code, then run every test

test-all: ## Run every test on each supported Python found here
	@tools/environment.sh pythons | while read -r version python; do \
	    echo "== Python $$version" ; \
	    $(MAKE) --no-print-directory suite VENV=.venv-$$version PYTHON="$$python" </dev/null || exit 1 ; \
	done

test-newest: environment ## Run what rests on websockets on its newest version; supabase holds the server's back
	@$(BIN)/pip install -qq --no-deps --upgrade --target $(VENV)/newest websockets
	@PYTHONPATH=$(VENV)/newest $(BIN)/pytest $(PYTEST) tests/sdk tests/access/test_unfinished_messages.py

suite: environment
	@$(BIN)/pytest $(PYTEST)

bundle: ## Write build/memx.mcpb, the bundle for Claude Desktop
	@python3 tools/bundle.py

coverage: environment ## Run every test, and say in build/coverage.md which lines none of them reaches
	@mkdir -p build
	@$(BIN)/pytest $(PYTEST) --cov=memx_sdk --cov=memx_server --cov=langchain_memx --cov=autogen_memx --cov=memx_mcp \
	    --cov-report=term --cov-report=markdown-append:build/coverage.md

lint: environment ## Check style, generated code, workflows and Dockerfile
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/python tools/unasync.py --check
	@$(BIN)/python tools/project.py --check
	@$(BIN)/hadolint Dockerfile
	@$(BIN)/actionlint

types: environment ## Check the types (mypy, strict)
	@$(BIN)/mypy

format: environment ## Format the code and mend what can be mended
	@$(BIN)/ruff check --fix --quiet || true
	@$(BIN)/ruff format

generate: environment ## Write the synchronous half of the SDK from the asynchronous one
	@$(BIN)/python tools/unasync.py

pin: environment ## Bring constraints.txt in line with the pyproject.toml files
	@$(BIN)/python tools/pin.py $(PIN)

project: ## Write what project.toml says (version, addresses) wherever it is repeated
	@python3 tools/project.py

pictures: environment ## Take the documentation's pictures from real runs; needs Chromium
	@PYTHONPATH=. $(BIN)/python tools/pictures.py

docs: environment ## Build the documentation as a site in build/site; a warning is an error
	@$(BIN)/mkdocs build --quiet --strict

docs-serve: environment ## Show the documentation while you write it
	@$(BIN)/mkdocs serve

fuzz: environment ## Search ten minutes for inputs that take longer than their length explains
	@MEMX_FUZZ_SECONDS=100 MEMX_FUZZ_SEED=$$(date +%s) $(BIN)/pytest -n 0 tests/access/test_slowness.py

bench: environment ## Measure everything beside its floor, in under 40 minutes
	@$(BIN)/python -m benchmarks --json benchmarks/results/bench.json --plot benchmarks/results/bench.svg

soak: environment ## Run 200 sockets on each store for ten minutes each: no 503, no growth
	@for store in sqlite redis; do PYTHONPATH=. $(BIN)/python tools/soak.py --store $$store || exit 1; done

bench-quick: environment ## Measure HTTP, the socket and fan-out beside their floors, in under 3 minutes
	@$(BIN)/python -m benchmarks --quick

dev: ## Start the API and Redis in containers
	@tools/compose.sh $(COMPOSE)
	@$(COMPOSE) up --build --detach --wait
	@echo "memX answers at http://127.0.0.1:8000 (API key: local_dev_key). Stop it with: make down"

down: ## Stop the containers; the memory stays in its volume
	@$(COMPOSE) down

clean: ## Remove environments, caches and builds
	@rm -rf .venv .venv-* build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

help:
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

environment:
	@tools/environment.sh test
