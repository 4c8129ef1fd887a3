# `make help` lists what can be done. Only git, make and Python 3.11 or newer are needed.
.DEFAULT_GOAL := help
.PHONY: help demo test matrix crashes faults chaos recovery nightly receivers bench bench-in-flight cost scale check format lock clean

PROMPT ?= a red fox in the snow
RUN := .venv/bin/python -m
export PROMPT

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

demo: .venv/.runtime  ## Generate one video on this machine and show its verified webhook (PROMPT="...")
	@$(RUN) pipeline demo "$$PROMPT"

test: .venv/.dev  ## Run the tests
	$(RUN) pytest -n auto --maxschedchunk 4 $(TESTS)

matrix: .venv/.dev  ## Show every provider under every fault of a paid call, and what was charged (docs/providers.md)
	@$(RUN) tests.matrix

crashes: .venv/.dev  ## Kill a worker at every boundary of every turn, on both databases, and show every end
	@$(RUN) tests.crash_sweep

chaos: .venv/.dev  ## Kill and stop processes under load on both databases, and catch every saboteur (docs/reliability.md)
	@$(RUN) tests.chaos $(CHAOS)

faults: .venv/.dev  ## Restart, cut, starve, lock and fill both databases under load, and show how soon all is well again
	@$(RUN) tests.faults $(FAULTS)

recovery: .venv/.dev  ## Show how soon others go on after a kill, a stop and a rolling restart, on both databases
	@$(RUN) tests.recovery

nightly: .venv/.dev  ## Play 1,500 random lives and queues, and every failover, on each database (EXAMPLES=...); an hour
	LONG=1 MACHINE_EXAMPLES=$(or $(EXAMPLES),1500) $(RUN) pytest -n 2 tests/pipeline/test_life_machine.py \
	  tests/pipeline/test_queue_machine.py tests/pipeline/test_failover.py tests/pipeline/test_lost_commits.py

receivers: .venv/.dev  ## Show what becomes of a webhook at every kind of bad receiver
	@$(RUN) tests.webhooks.receivers

bench: .venv/.dev  ## Measure how fast signed webhooks go out, beside plain httpx
	@$(RUN) benchmarks.webhooks

bench-in-flight: .venv/.dev  ## Measure one worker with 1,000, 5,000 and 20,000 generations in flight (10 minutes)
	@$(RUN) benchmarks.in_flight

cost: .venv/.dev  ## Measure what a generation costs the database: commits, log, rows (docs/scaling.md)
	@$(RUN) tests.database_cost

scale: .venv/.dev  ## Explain and time every statement at a million ended and 100,000 waiting generations
	DAILIES_SCALE=1 $(RUN) pytest -s tests/pipeline/test_plans.py tests/pipeline/test_line_at_scale.py \
	  tests/pipeline/api/test_status_scale.py

check: .venv/.dev  ## Lint, types and import rules
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	.venv/bin/lint-imports --no-cache

format: .venv/.dev  ## Format the code
	$(RUN) ruff format .
	$(RUN) ruff check --fix .

lock:  ## Write the lock files anew from pyproject.toml (needs uv)
	uv pip compile -q pyproject.toml --group build $(LOCK) -o requirements.txt
	uv pip compile -q pyproject.toml --group build --group dev -c requirements.txt $(LOCK) -o requirements-dev.txt
	uv pip compile -q --group clients -c requirements-dev.txt $(LOCK) -o requirements-clients.txt
# With the extras: pip takes a newer version of `name[extra]` than the one that is locked as `name`, and then refuses it.
LOCK := --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header --no-strip-extras --upgrade

clean:  ## Remove everything that was set up here (not the data)
	rm -rf .venv .cache .mypy_cache .ruff_cache .hypothesis build *.egg-info

.venv/.runtime: requirements.txt pyproject.toml scripts/setup
	@scripts/setup requirements.txt
	@touch $@

.venv/.dev: requirements-dev.txt requirements-clients.txt pyproject.toml scripts/setup
	@scripts/setup requirements-dev.txt requirements-clients.txt
	@touch $@ .venv/.runtime
