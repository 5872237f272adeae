# `make demo` starts everything, `make test` is the gate for contributors. Both make .venv when it is missing.

PORT ?= 8000
PYTEST_ARGS ?= -n 2
BIN := .venv/bin
LANGUAGES := fr it pt_BR hi

.PHONY: demo test test-fast nightly faults messages format install install-dev
.DEFAULT_GOAL := demo

# .venv/.installed lists the checksums of the requirements that stand complete in .venv. It is taken away while pip works:
# a .venv without it is half-made and made anew.
define INSTALL
set -e; \
if [ -d .venv ] && ! { [ -f .venv/.installed ] && $(BIN)/python -c ''; } 2>/dev/null; then \
  echo "The .venv is half-made (an earlier install did not finish); making it again."; rm -rf .venv; \
fi; \
if [ ! -d .venv ]; then \
  for name in $(PYTHON) python3.11 python3.12 python3.13 python3; do \
    if "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$$name; break; fi; \
  done; \
  if [ -z "$$python" ]; then echo "Polyphony needs Python 3.11 or newer, and there is no python3.11 on this machine." >&2; exit 1; fi; \
  if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
    echo "$$python cannot make virtual environments; on Debian install its venv package: apt-get install $$python-venv" >&2; exit 1; \
  fi; \
  "$$python" -m venv .venv; touch .venv/.installed; \
fi; \
wanted=$$(for file in $(sort requirements.txt $(1)); do echo "$$file $$(cksum < $$file)"; done); \
if [ "$$(grep -Fxc "$$wanted" .venv/.installed)" -lt $(words $(sort requirements.txt $(1))) ]; then \
  echo "Installing the packages of $(1) into .venv …"; \
  rm .venv/.installed; \
  $(BIN)/python -m pip install -qq --disable-pip-version-check -r $(1) || { \
    echo "The packages could not be installed; see the lines above, then run the same command again." >&2; exit 1; }; \
  echo "$$wanted" > .venv/.installed; \
fi
endef

install:
	@$(call INSTALL,requirements.txt)

install-dev:
	@$(call INSTALL,requirements-dev.txt)

demo: install
	@exec $(BIN)/python manage.py demo --port $(PORT)

# Every check. STEPS="mypy pytest" runs only these; PYTEST_ARGS goes to pytest.
test: install-dev
	@exec $(BIN)/python .ci/gate.py $(STEPS) -- $(PYTEST_ARGS)

# While working: the tests without browsers, stopping at the first failure.
test-fast: install-dev
	@exec $(BIN)/pytest -q -x -n 2 -m "not nightly and not browser"

# These refuse to start where something they need is missing, and say what.
nightly: export POLYPHONY_REQUIRE ?= browser,postgresql,redis
faults: export POLYPHONY_REQUIRE ?= postgresql,redis

# What is too long for the gate (half an hour): workers that get killed, every language in the browser, properties with many examples.
# Needs DATABASE_URL on PostgreSQL, REDIS_URL and Chromium.
nightly: install-dev
	@exec $(BIN)/pytest --timeout 5400 -m "nightly or hypothesis" --hypothesis-profile nightly

# Servers that get killed, long forms too (about half an hour; FAULT_ROUNDS=3 shortens it). Needs DATABASE_URL on PostgreSQL, REDIS_URL,
# and PostgreSQL's own programs for a cluster that may be killed.
faults: install-dev
	@exec $(BIN)/pytest --timeout 5400 tests/faults -m "nightly or not nightly"

# Needs xgettext (Debian: apt-get install gettext).
messages: install-dev
	@$(BIN)/python manage.py makemessages $(foreach language,$(LANGUAGES),-l $(language)) --no-obsolete --no-wrap --add-location file \
	  --ignore .venv --ignore var --ignore tests

format: install-dev
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format . ; $(BIN)/djlint --reformat --quiet templates apps ; true
