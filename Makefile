# `make run` starts Postroom, `make test` proves it. Both do all of their own set-up.
RUN  = .venv/run/bin/python
TEST = .venv/test/bin/python

.PHONY: run test check format lint types pytest drill deps-bench bench-quick bench fuzz lock help

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

run: ## set up and start everything on SQLite, with a test inbox
	@scripts/venv .venv/run requirements/run.txt
	@exec $(RUN) -m postroom serve --inbox 127.0.0.1:2526 --first-run $(ARGS)

test: .venv/test ## set up, then format, lint, types and every test
	@$(MAKE) --no-print-directory check

check: format lint types pytest

.venv/test: requirements/test.txt
	@scripts/venv .venv/test requirements/test.txt
	@touch .venv/test

format: .venv/test ## is everything formatted?
	@$(TEST) -m ruff format --check .

lint: .venv/test ## ruff
	@$(TEST) -m ruff check .

types: .venv/test ## mypy --strict
	@$(TEST) -m mypy

pytest: .venv/test ## every test
	@scripts/test-tools
	@$(TEST) -m pytest -n auto --dist loadfile $(ARGS)

drill: .venv/test ## the long drills: 10,000 messages and 50 kills for each purpose, caps; minutes
	@$(TEST) -m drills $(ARGS)

deps-bench: ## what the benchmark compares with: Postfix, Redis, Python peers (needs root on Debian)
	@scripts/bench-tools

bench-quick: .venv/test ## Postroom beside Postfix, under a minute: one JSON line per database
	@$(TEST) -m bench.relay --quick

bench: .venv/test deps-bench ## all peers, costs inside, memory, kills, millions of rows; about an hour on a machine with nothing else to do
	@scripts/test-tools
	@$(TEST) -m bench.relay $(ARGS)
	@$(TEST) -m bench.accept
	@$(TEST) -m bench.engine
	@$(TEST) -m bench.smtp_client
	@$(TEST) -m bench.dkim
	@$(TEST) -m bench.tracking
	@$(TEST) -m bench.memory
	@$(TEST) -m bench.kills
	@$(TEST) -m bench.fairness
	@$(TEST) -m bench.breadth
	@$(TEST) -m bench.search
	@$(TEST) -m bench.scale

fuzz: .venv/test ## requests that nobody sane would make, at a running serve; some fifteen minutes
	@$(TEST) -m drills.schemas
	@$(TEST) -m drills.fuzz $(ARGS)

lock: ## write the lock files anew (needs uv)
	@scripts/lock --upgrade
