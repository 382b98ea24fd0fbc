# make demo: everything from nothing to results/demo/report.html.  make test: the default tests.
# make verify: whether a finished study is as it was made (RESULTS=results/my-study: another than the demo).
# Every installed file is checked against envs/locks/ on Linux x86-64 (HASHES=yes: elsewhere too; HASHES=no: nowhere).
# make sbom: the bill of materials.  make audit: known vulnerabilities (needs the network).  make licences, make lock:
# the tables of licences and of hashes anew, after a change of pins.
PYTHON ?= python3.11
CORES ?= 2
HASHES ?= auto
RESULTS ?= results/demo
VENV := .venv
BIN := $(VENV)/bin
TOOLS := $(VENV)/tools
LOCKS := $(wildcard envs/locks/*.lock)
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo test verify format sbom audit licences lock clean

demo: $(BIN)/.run
	snakemake --cores $(CORES)
	@echo "open results/demo/report.html"

test: $(BIN)/.dev
	pytest -m "not slow and not fsl_mrs and not slurm and not gpu" -n $(CORES)

# The folder is handed over as it was given, not as text for make or the shell
unexport RESULTS
verify: export STUDY_FOLDER = $(value RESULTS)
verify: $(BIN)/.run
	@PYTHONPATH=workflow PYTHONDONTWRITEBYTECODE=1 $(BIN)/python -m mrs_synthesis.manifest verify -- "$$STUDY_FOLDER"

format: $(BIN)/.dev
	ruff format . && ruff check --fix . && snakefmt -S Snakefile workflow/rules

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(BIN)/.run: requirements.txt $(LOCKS) | $(BIN)/python
	$(BIN)/python envs/install.py --hashes $(HASHES)
	@touch $@

$(BIN)/.dev: requirements-dev.txt requirements.txt $(LOCKS) | $(BIN)/python
	$(BIN)/python envs/install.py --hashes $(HASHES) --development
	@touch $@

$(TOOLS)/.done: envs/locks/tools.lock
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $<
	@touch $@

sbom: $(BIN)/.run $(TOOLS)/.done
	$(TOOLS)/bin/python envs/sbom.py --python $(BIN)/python --output results/sbom.cdx.json

audit: $(TOOLS)/.done
	$(TOOLS)/bin/python envs/audit.py

licences: $(BIN)/.dev
	$(BIN)/python envs/licences.py

lock: $(TOOLS)/.done
	PATH=$(CURDIR)/$(TOOLS)/bin:$$PATH $(TOOLS)/bin/python envs/lock.py --hashes

clean:
	rm -rf $(VENV) .snakemake results/demo
