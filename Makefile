# Each target is one line that a person would type; set-up happens by itself, once.
PYTHON ?= python3
VENV   ?= .venv
STORE  ?= store
BIN    := $(VENV)/bin

.PHONY: search test check format ui board bench clean

search: $(VENV)/.installed
	$(BIN)/pgolf search laptop --store $(STORE) $(ARGS)

test: $(VENV)/.installed-dev
	$(BIN)/pytest -n 2 --dist loadgroup $(ARGS)

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

ui: $(VENV)/.installed
	$(BIN)/pgolf ui --store $(STORE) $(ARGS)

board: $(VENV)/.installed
	$(BIN)/pgolf board --store $(STORE) $(ARGS)

bench: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks $(ARGS)

clean:
	rm -rf $(STORE) runs

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("pgolf needs Python 3.11 to 3.13; try make PYTHON=python3.11") if not (3, 11) <= sys.version_info[:2] <= (3, 13) else None'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@ $(VENV)/.installed
