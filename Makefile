# pointsman: `make demo` shows what it does, `make dev` keeps it running, `make test` proves it.
# Another Kafka than our own:  make demo BROKER=host:port    another ClickHouse:  make dev CLICKHOUSE=http://host:8123

PYTHON ?= $(shell for each in python3 python3.13 python3.12 python3.11; do \
	$$each -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$each; break; }; done)
BROKER ?=
CLICKHOUSE ?=
ARGS ?=
SEEDS ?= 1000
JOBS ?= $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)

# Test processes: more than the two cores they are made for, since half of what a test of real processes takes is waiting.
WORKERS ?= 3

BIN := .venv/bin
INSTALLED := .venv/.installed
COMPILED := .venv/.compiled
PARTS := agents console loadtest schemas streams
SOURCES = $(shell find $(PARTS) -name .venv -prune -o -name '*.py' -print)
JARS := ops/broker/lib/.complete
CLASSES := ops/broker/lib/.archived
# The interpreter of an example agent, with packages of its own.
EXAMPLE := docs/examples/agents/pint
EXAMPLE_INSTALLED := $(EXAMPLE)/.venv/.installed
# A broker of somebody else's needs neither Java nor the jars.
LOCAL_BROKER := $(if $(BROKER),,$(CLASSES))
BROKER_FLAG := $(if $(BROKER),--broker $(BROKER))
CLICKHOUSE_FLAG := $(if $(CLICKHOUSE),--clickhouse $(CLICKHOUSE))

.DEFAULT_GOAL := help
.PHONY: help setup demo dev test simulate bench-peers check reference clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(COMPILED) $(CLASSES) $(EXAMPLE_INSTALLED) ## make .venv from the lock and fetch Apache Kafka's jars; only what is stale

demo: $(COMPILED) $(LOCAL_BROKER) $(EXAMPLE_INSTALLED) ## run real tasks through broker, workers, agents and history; 30 s
	@$(BIN)/pointsman demo $(BROKER_FLAG) $(ARGS)

dev: $(COMPILED) $(LOCAL_BROKER) ## the same processes, staying up; data in .pointsman/; ARGS=--reload
	@$(BIN)/pointsman dev $(BROKER_FLAG) $(CLICKHOUSE_FLAG) $(ARGS)

test: $(COMPILED) $(CLASSES) $(EXAMPLE_INSTALLED) ## every test, on a real broker and the real ClickHouse engine; ARGS go to pytest
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

simulate: $(INSTALLED) ## play SEEDS seeded runs of whole deployments, all invariants asked of each; docs/simulation.md
	@$(BIN)/python -m tests.simulation --seeds $(SEEDS) --jobs $(JOBS) $(ARGS)

bench-peers: $(INSTALLED) $(CLASSES) ## measure the worker beside its peers, each installed where it is stale; minutes; loadtest/peers/README.md
	@$(BIN)/python -m console.peers $(ARGS)

check: $(INSTALLED) ## lint, format, types and import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

reference: $(INSTALLED) ## write the pages that are made out of the program, and the topology's JSON Schema
	@$(BIN)/python -m console.reference

clean: ## remove what setup and the tools made; .pointsman/ (your data) stays
	rm -rf .venv $(EXAMPLE)/.venv loadtest/peers/*/.venv loadtest/peers/kafka_streams/target ops/broker/lib .mypy_cache .ruff_cache .import_linter_cache .hypothesis *.egg-info

$(INSTALLED): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "pointsman needs Python 3.11 or later; install it, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || echo "setup: making .venv, of 1.4 GB: minutes where nothing is cached" >&2
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || \
		{ echo "$(PYTHON) cannot make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "setup: installing the locked dependencies into .venv; the longest step" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# Where PYTHONDONTWRITEBYTECODE is set, as in many a container, each process would compile all of this at each start.
$(COMPILED): $(SOURCES) | $(INSTALLED)
	@$(BIN)/python -m compileall -q -x '/\.venv/' $(PARTS)
	@touch $@

$(EXAMPLE_INSTALLED): $(EXAMPLE)/requirements.lock | $(INSTALLED)
	@echo "setup: making the interpreter of an example agent in $(EXAMPLE)/.venv" >&2
	@test -x $(EXAMPLE)/.venv/bin/python || $(BIN)/python -m venv $(EXAMPLE)/.venv
	@$(EXAMPLE)/.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

$(JARS): ops/broker/pom.xml
	@test "$$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p')" -ge 17 2>/dev/null || { echo "A local broker needs Java 17 or later (Debian, Ubuntu: apt-get install openjdk-17-jre-headless). Or use a Kafka of your own: make demo BROKER=HOST:PORT" >&2; exit 1; }
	@command -v mvn >/dev/null || { echo "Apache Kafka's jars come through Maven (Debian, Ubuntu: apt-get install maven). Or use a Kafka of your own: make demo BROKER=HOST:PORT" >&2; exit 1; }
	@echo "setup: fetching Apache Kafka's jars into ops/broker/lib" >&2
	@mvn --quiet --batch-mode -f ops/broker/pom.xml dependency:copy-dependencies
	@touch $@

# A broker starts in half the time where the JVM maps its classes; one whose Java makes no archive does without.
$(CLASSES): $(JARS) | $(INSTALLED)
	@$(BIN)/python -m console.local.class_archive
