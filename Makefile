# `make run` and `make test` need nothing but a CPython 3.12-3.14; the rest is set up on first use.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:  # what is compared has to be run before
.PHONY: help run test accept accept-nt accept-legacy accept-compare lint check bench chaos soak picture \
    lock clean redis FORCE

export PATH := $(CURDIR)/.tools/bin:$(PATH)
PY := .venv/bin/python
STAMP := .venv/made-in
PYTEST := PYTHONASYNCIODEBUG=1 $(PY) -m pytest
RESULTS := artifacts/acceptance

help:
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-15s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(STAMP) ## run the demo until Ctrl-C; STRATEGY=module:Class and RATE=n (events/s) to choose
	@ops/find-redis >/dev/null || echo 'make run: going on with the slower built-in stand-in.' >&2
	@exec $(PY) -m bridge run \
	    $(if $(STRATEGY),--strategy '$(STRATEGY)') $(if $(RATE),--rate '$(RATE)')

test: $(STAMP) redis ## run the tests against a real redis-server, then `make accept`
	$(PYTEST) --numprocesses 3 --dist loadfile -m 'not slow' tests --ignore tests/chaos
	$(PYTEST) -m 'not slow' tests/chaos  # it wants the machine for itself
	@$(MAKE) --no-print-directory accept

accept: accept-nt accept-legacy accept-compare ## does the port of basis carry trade like the original?

# Each removes what it is to write: an older result must not be judged in place of one that failed.
accept-nt: $(STAMP) ## the port in Nautilus's backtest, over the generated week
	@rm -f $(RESULTS)/nautilus_results.json
	@$(PY) integrations/nautilus/run_backtest.py --mode full --output $(RESULTS)/nautilus_results.json

accept-legacy: $(STAMP) ## the independent program over the same week
	@rm -f $(RESULTS)/legacy_results.json
	@$(PY) -m acceptance run legacy --output $(RESULTS)/legacy_results.json

accept-compare: $(STAMP) ## judge the two results: exit 0 pass, 1 fail, 2 cannot judge
	@rm -f $(RESULTS)/report.html $(RESULTS)/report.md $(RESULTS)/comparison.json
	@$(PY) -m acceptance compare $(RESULTS)/nautilus_results.json $(RESULTS)/legacy_results.json \
	    --golden acceptance/goldens/basis_carry.json

lint: $(STAMP) ## ruff, mypy, the import rules, no registry host or machine path in the tree
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	.venv/bin/lint-imports --no-logo
	ops/check-leaks

check: lint test ## lint, test and the slow tests; a test whose tool is absent says so and is skipped
	$(PYTEST) -m slow -rs tests || [ $$? -eq 5 ]  # 5: there is no slow test

bench: $(STAMP) redis ## measure speed against a reference, write artifacts/bench.json
	$(PY) -m tests.bench.run

chaos: $(STAMP) redis ## kill, cut and starve it, count what is lost; SEED=n ROWS='...' STRIKES=n
	$(PY) -m tests.chaos.run $(if $(SEED),--seed $(SEED)) $(if $(ROWS),--rows $(ROWS)) \
	    $(if $(STRIKES),--strikes $(STRIKES))

picture: $(STAMP) redis ## take the README's picture of the ops page anew (three minutes)
	PICTURE_SECONDS=170 $(PYTEST) -m slow tests/bridge/status/test_page_live.py -k picture

soak: $(STAMP) redis ## run it for MINUTES=n (10) at a steady rate, judge what it gathers and loses
	$(PY) -m tests.bench.soak $(if $(MINUTES),--minutes $(MINUTES))

LOCK = env -u UV_INDEX -u UV_EXTRA_INDEX_URL -u UV_FIND_LINKS UV_CUSTOM_COMPILE_COMMAND='make lock' \
    $(PY) -m uv pip compile --no-config --quiet --universal --generate-hashes --no-emit-index-url \
    --python-version 3.12 pyproject.toml

lock: $(STAMP) ## write requirements.txt, and of it ops/requirements.txt, from pyproject.toml
	$(LOCK) --group dev -o requirements.txt
	$(LOCK) --constraint requirements.txt --no-annotate -o ops/requirements.txt  # what a service needs

clean: ## remove everything that was made here, .venv and .tools included
	rm -rf .venv .tools artifacts .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

redis:
	@ops/find-redis >/dev/null

# Written last, so a failed install is not taken for a finished one. It names the folder, because a
# virtual environment that was moved, or whose Python is gone, has to be made again.
$(STAMP): requirements.txt
	@python=$$(ops/find-python) && rm -rf .venv && "$$python" -m venv .venv
	@echo 'Installing the Python packages into .venv (about a minute, once) ...'
	@$(PY) -m pip install --quiet --disable-pip-version-check \
	    --require-hashes --no-deps --only-binary :all: -r requirements.txt
	@echo '$(CURDIR)' >$@

ifneq ($(CURDIR),$(shell $(PY) -c '' 2>/dev/null && cat $(STAMP) 2>/dev/null))
$(STAMP): FORCE
endif
