# make demo: everything from nothing to results/demo/report.html.  make test: the default tests.
PYTHON ?= python3.11
CORES ?= 2
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo test format clean

demo: $(BIN)/.run
	snakemake --cores $(CORES)
	@echo "open results/demo/report.html"

test: $(BIN)/.dev
	pytest -m "not slow and not fsl_mrs and not slurm and not gpu" -n $(CORES)

format: $(BIN)/.dev
	ruff format . && ruff check --fix . && snakefmt -S Snakefile workflow/rules

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(BIN)/.run: requirements.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(BIN)/.dev: requirements-dev.txt requirements.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

clean:
	rm -rf $(VENV) .snakemake results/demo
