# Two commands matter: `make demo` and `make test`. Each needs Python 3.10 or newer and nothing else.
PYTHON ?= python3
BIN = .venv/bin
READY = .venv/ready

.PHONY: demo test quick check bench clean

demo: .venv/demo-ready
	$(BIN)/python containers/demo.py

test: $(READY)
	$(BIN)/python -m pytest

quick: $(READY)
	$(BIN)/python -m pytest -m "not engine and not heavy"

check: $(READY)
	$(BIN)/ruff check && $(BIN)/ruff format --check && $(BIN)/mypy

bench: $(READY)
	$(BIN)/python benchmarks/serving.py

$(READY): pyproject.toml
	$(PYTHON) -m venv .venv && $(BIN)/python -m pip install --quiet --editable '.[dev]' && touch $(READY)

.venv/demo-ready: pyproject.toml
	$(PYTHON) -m venv .venv && $(BIN)/python -m pip install --quiet --editable '.[emulator,sklearn]' && touch .venv/demo-ready

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache
