# `make demo` and `make test` each do all their own set-up: Python 3.11 with venv and pip is all they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export HF_HUB_OFFLINE := 1

.PHONY: demo test lint bench docs notebooks evidence families fuzz gpu-test page-test soak validity lowest clean
demo: $(INSTALLED)
	@$(BIN)/python examples/demo.py

test: $(INSTALLED)
	@$(BIN)/python -m pytest -n auto --dist loadgroup

lint: $(INSTALLED)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest tests/test_imports.py

bench: $(INSTALLED)
	@$(BIN)/saliency-guard bench speed

# The documentation as a site in site/ (docs/index.md is its first page); a warning is an error.
docs: $(INSTALLED)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Runs the notebooks of docs/notebooks and stores what they show (NOTEBOOKS=path: only these).
notebooks: $(INSTALLED)
	@$(BIN)/python docs/hooks/notebooks.py $(NOTEBOOKS)

# docs/evidence.md anew (about half an hour of one core). Stopped, it goes on where it was.
evidence: $(INSTALLED)
	@$(BIN)/saliency-guard bench calibration --page docs/evidence.md
	@$(BIN)/saliency-guard bench mitigation --page docs/evidence.md
	@$(BIN)/saliency-guard bench detection --page docs/evidence.md
	@$(BIN)/saliency-guard bench pointing --page docs/evidence.md

# Random and damaged input (a few minutes): an answer or an error of ours, never a raw one, and never a hang.
fuzz: $(INSTALLED)
	@$(BIN)/python -m pytest tests/fuzz

# Concurrent calls of all kinds, thousands of requests, memory (SOAK_SHARE=0.1: a tenth of it); small versions are part of
# `make test`.
soak: $(INSTALLED)
	@$(BIN)/python -m pytest tests/soak

validity: $(INSTALLED)
	@$(BIN)/python -m pytest tests/validity

# Every family of models against brute force and transformers' own `generate`; writes the table of docs/models.md.
families: $(INSTALLED)
	@$(BIN)/python -m pytest tests/families_matrix

# Every family, and the embedded model, on a GPU: the answers and scores of the CPU. Fails where there is none. `.venv` holds
# torch for CPUs: PYTEST="python3 -m pytest" takes another environment's.
PYTEST ?= $(BIN)/python -m pytest
gpu-test:
	@$(PYTEST) tests/gpu

# The page in a real browser; needs chromium (apt install chromium). SCREENSHOTS=docs/page takes the documents' pictures anew.
page-test: $(INSTALLED)
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt 'playwright>=1.50'
	@$(BIN)/python -m pytest tests/browser

# The oldest versions of LangChain and LlamaIndex that our packages say they support.
lowest:
	@$(PYTHON) -m venv .venv-lowest
	@.venv-lowest/bin/python -m pip install --quiet torch==2.13.0 --editable '.[structured]' \
		--editable integrations/langchain pytest pytest-asyncio pytest-socket langchain-core==1.4.0 langchain==1.3.0
	@.venv-lowest/bin/python -m pytest integrations/langchain/tests/unit_tests \
		--ignore integrations/langchain/tests/unit_tests/test_standard.py
	@.venv-lowest/bin/python -m pip install --quiet --editable 'integrations/llama_index[all,dev]' llama-index-core==0.14.23
	@.venv-lowest/bin/python -m pytest integrations/llama_index/tests

$(INSTALLED): pyproject.toml constraints.txt $(wildcard integrations/*/pyproject.toml)
	@echo "Setting up $(VENV) (once; a few minutes)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt \
		--editable '.[all,dev]' \
		--editable 'integrations/langchain[all,dev]' \
		--editable 'integrations/llama_index[all,dev]'
	@touch $@

clean:
	rm -rf $(VENV) .venv-lowest build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
