# `make help` says what there is. Settings: ORDERS=500 or all, DATA=folder, SEED=number, KEEP=1, PYTHON=path.

VENV := .venv/bin
PYTHON ?=

.PHONY: help run test faults bench load security check style types pure clean venv
.DEFAULT_GOAL := help

help:
	@echo "make run     drive the orders of a real shop through the whole platform"
	@echo "             ORDERS=500 or ORDERS=all (default 1000), DATA=folder (default .data), SEED=number,"
	@echo "             KEEP=1 to stay up at the end (on a terminal it does so anyway; KEEP=0: it does not)"
	@echo "make test    pure tests, simulated faults, stories, and about a sixth of the real faults, with the coverage asked for"
	@echo "make faults  every real fault, over an hour, with a new seed: SEEDS=5 for as many, SEED=number for a certain one"
	@echo "make bench   how fast it is, beside what Kafka and PostgreSQL can move at all: minutes; BENCH='drain --quick' for less"
	@echo "make load    a shop's traffic, 500 requests a second for five minutes, then the audit: LOAD=--quick for a short one"
	@echo "make security  the security tests, minutes of schemathesis, then bandit, a scan for secrets, and known weaknesses of what is installed"
	@echo "             OSV=address of an OSV service (…/v1/query) where pypi.org cannot be asked for them"
	@echo "make check   style, types and the tests that need no stack: about a minute"
	@echo "make clean   remove .venv and all caches here (not $${DATA:-.data}: that is yours)"

run: venv
	@$(VENV)/pavane demo

# What needs no stack runs on two cores; walks of many states without a look at their lines, which would take most of
# their time. The report is of everything else. Faults have the machine for themselves; what else needs the stack runs on
# two of them, file by file.
test: venv
	@$(VENV)/python -m pytest -m "not stack and slow" -n 2
	@$(VENV)/python -m pytest -m "not stack and not slow" -n 2 --cov --cov-report= --cov-fail-under=0
	@$(VENV)/python -m pytest -m stack tests/faults --durations=10 --cov --cov-append --cov-report= --cov-fail-under=0
	@$(VENV)/python -m pytest -m stack --ignore=tests/faults -n 2 --dist loadfile --no-loadscope-reorder \
		--durations=15 --durations-min=10 --cov --cov-append --cov-report=term:skip-covered

faults: venv
	@FAULTS=all $(VENV)/python -m pytest -s tests/faults tests/deploy tests/pavane/test_restarts.py \
		tests/security/test_others_are_served.py tests/security/test_open_streams.py tests/security/test_keycloak.py

# The picture needs matplotlib, which nothing else does.
bench: venv
	@$(VENV)/python -c "import matplotlib" 2>/dev/null || \
		$(VENV)/python -m pip install --quiet --no-deps --require-hashes -r bench.lock
	@$(VENV)/pavane bench $(BENCH)

# In an environment of its own: locust brings gevent.
load: venv
	@cmp -s load.lock .venv-load/load.lock || { \
		$(VENV)/python -m venv --clear .venv-load && \
		.venv-load/bin/python -m pip install --quiet --no-deps --require-hashes -r load.lock && \
		cp load.lock .venv-load/; }
	@$(VENV)/pavane bench load $(LOAD)

# In an environment of its own: what looks over the code is nothing that the code needs. What was looked at and is meant
# stands in infra/security; whatever is new fails, and so does a package of which nobody can say whether it is known to
# be weak.
SCANS := .venv-security/bin
security: venv
	@$(VENV)/python -m pytest tests/security
	@FUZZ=long $(VENV)/python -m pytest -s tests/stories/test_described.py
	@cmp -s security.lock .venv-security/security.lock || { \
		$(VENV)/python -m venv --clear .venv-security && \
		$(SCANS)/python -m pip install --quiet --no-deps --require-hashes -r security.lock && \
		cp security.lock .venv-security/; }
	@$(SCANS)/bandit --quiet --recursive --configfile pyproject.toml --baseline infra/security/bandit.json \
		api streams pavane infra contracts choreography
	@git ls-files -z ':!infra/security/secrets.json' > .venv-security/files && test -s .venv-security/files || { \
		echo "git does not say which files there are, so none was looked at for secrets: run it in a git checkout" >&2; exit 1; }
	@xargs -0 $(SCANS)/detect-secrets-hook --baseline infra/security/secrets.json < .venv-security/files
	@$(SCANS)/pip-audit --disable-pip --require-hashes --strict $(if $(OSV),--vulnerability-service osv --osv-url $(OSV)) \
		-r requirements.runtime.lock || { \
		echo "pip-audit: either a package above is known to be weak, or nobody could be asked (a connection error, or" >&2; \
		echo "'not found on PyPI': a mirror has packages, but not what is known about them). Then nothing is proven. Run it" >&2; \
		echo "where pypi.org itself answers, or name an OSV service: make security OSV=https://.../v1/query" >&2; exit 1; }

# Side by side, each one's output in one piece.
check: venv
	@$(MAKE) --no-print-directory --output-sync=target -j3 style types pure

style: venv
	@$(VENV)/ruff check .

types: venv
	@$(VENV)/mypy

pure: venv
	@$(VENV)/python -m pytest -m "not stack and not slow" -n 2

# Quick when nothing has changed: a stamp in .venv holds the digest of the lock.
venv:
	@for python in $(or $(PYTHON),python3.13 python3.12 python3.11 python3); do \
		"$$python" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
		exec "$$python" -I pavane/bootstrap.py; \
	done; \
	echo "Pavane needs Python 3.11 or newer, and $(or $(PYTHON),what is on the PATH) is not." >&2; \
	echo "Install one, or name it: make run PYTHON=/path/to/python3" >&2; \
	exit 1

clean:
	@rm -rf .venv .venv-security .venv-load .pytest_cache .mypy_cache .ruff_cache .hypothesis .schemathesis .coverage .coverage.* *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
