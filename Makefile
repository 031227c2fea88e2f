# `make demo` and `make test` each do all their own set-up: Python 3.11 with venv and pip is all they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export HF_HUB_OFFLINE := 1

.PHONY: demo test lint bench validity clean
demo: $(INSTALLED)
	@$(BIN)/python examples/demo.py

test: $(INSTALLED)
	@$(BIN)/python -m pytest

lint: $(INSTALLED)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest tests/test_imports.py

bench: $(INSTALLED)
	@$(BIN)/saliency-guard bench speed

validity: $(INSTALLED)
	@$(BIN)/python -m pytest validity

$(INSTALLED): pyproject.toml constraints.txt $(wildcard integrations/*/pyproject.toml)
	@echo "Setting up $(VENV) (once; a few minutes)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt \
		--editable '.[all,dev]' \
		--editable 'integrations/langchain[all,dev]' \
		--editable 'integrations/llama_index[all]'
	@touch $@

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
