# Every target sets up what it needs by itself, with pip, in a virtual environment.
# PYTHON=python3.12 picks the interpreter, VENV=DIR the place, INSTALLER="uv pip" another installer.
PYTHON ?= python3
VENV ?= .venv
INSTALLER ?= $(VENV)/bin/python -m pip
BIN := $(VENV)/bin
READY := $(VENV)/.ready
READY_DEV := $(VENV)/.ready-dev
READY_DOCS := $(VENV)/.ready-docs
READY_BROWSER := node_modules/.ready
TESTED_EXTRAS := hf,train,adapters,web,notebook,maps,weights,scale,cloud
ENGINE_TESTS := tests/gradients tests/test_shortcuts.py tests/test_matmul.py tests/test_guard.py tests/test_tangents.py tests/test_target_gradients.py tests/test_captum_methods.py

.PHONY: demo test coverage browser packages test-second-torch test-old-torch lint lint-js extras bench guard zoo mutants audit fuzz docs clean

demo: $(READY)  ## two packaged photos explained; prints the page's path
	$(BIN)/chiaroscuro explain --out chiaroscuro-out --force

test: $(READY_DEV)  ## every test, doctests and README snippets included; pages too after `make browser`
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

coverage: $(READY_DEV)  ## the same, and the lines that no test reaches; half as long again
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal --cov=chiaroscuro --cov-report=term-missing:skip-covered

test-second-torch: $(READY_DEV)  ## the engine's tests with PyTorch 2.13, its processor build, the other packages shared
	$(BIN)/python -m venv --clear $(VENV)-second
	$(VENV)-second/bin/python -m pip install --quiet --no-deps torch==2.13.0 torchvision==0.28.0
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > $$(echo $(VENV)-second/lib/python*/site-packages)/shared.pth
	PYTHONPATH=src $(VENV)-second/bin/python -m pytest -p tests.second_torch -W 'ignore:`torch.jit.script` is deprecated:DeprecationWarning' --numprocesses 2 --dist worksteal $(ENGINE_TESTS)

test-old-torch:  ## every test with the oldest PyTorch of the range, in an environment of its own
	$(PYTHON) -m venv $(VENV)-old
	$(VENV)-old/bin/python -m pip install --quiet -r requirements-dev.txt -e '.[$(TESTED_EXTRAS)]' torch==2.6.0 torchvision==0.21.0
	$(VENV)-old/bin/python -m pytest --numprocesses 2 --dist worksteal

lint: $(READY_DEV)  ## format, style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

lint-js: $(READY_BROWSER)  ## types of the viewer's script
	node_modules/.bin/tsc --noEmit

browser: $(READY_BROWSER)  ## what tests of pages need: Debian's chromium, and npm's packages of package.json

extras: $(READY)  ## whether every extra together has a solution with the pinned versions
	$(BIN)/python -m pip install --dry-run --quiet -c constraints.txt -e '.[all]'

packages: $(READY_DEV)  ## wheel and sdist, installed bare, and README's commands from there; EXTRAS=every: each extra too
	$(BIN)/python -m tools.packages $(foreach name,$(EXTRAS),--extra $(name))

bench: $(READY_DEV)  ## every figure of docs/results/speed.md, on a machine of its own; DATA_ROOT=DIR holds cifar10/
	$(BIN)/python -m benchmarks --full --write $(if $(DATA_ROOT),--data-root $(DATA_ROOT))

guard: $(READY_DEV)  ## a minute of it: fails when ours became slower against a plain loop
	$(BIN)/python -m benchmarks.guard

zoo: $(READY_DEV)  ## docs/results/architectures.md: every architecture against plain autograd, an hour or two
	$(BIN)/python -m benchmarks.zoo --write

mutants: $(READY_DEV)  ## break listed lines one by one; each must turn the suite red
	$(BIN)/python -m tools.mutants

audit: $(READY)  ## known weaknesses of every pinned package, which PyPI's database is asked for
	$(BIN)/python -m venv $(VENV)-audit
	$(VENV)-audit/bin/python -m pip install --quiet pip-audit
	$(VENV)-audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip

fuzz: $(READY_DEV)  ## mutated files for every reader, hours; rows in fuzz.jsonl, by which it resumes
	$(BIN)/python -m tools.fuzz --images 100000 --readers 20000 --rows fuzz.jsonl

docs: $(READY_DOCS)  ## the documentation as a site in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:  ## remove what these targets made
	rm -rf $(VENV) $(VENV)-second $(VENV)-old $(VENV)-audit node_modules site chiaroscuro-out benchmarks/out

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)

$(READY): pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALLER) install --quiet -c constraints.txt -e .
	touch $@

$(READY_DEV): $(READY) requirements-dev.txt
	$(INSTALLER) install --quiet -c constraints.txt -r requirements-dev.txt -e '.[$(TESTED_EXTRAS)]'
	touch $@

$(READY_BROWSER): package.json
	command -v chromium > /dev/null || { apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium fonts-liberation; }
	command -v faketime > /dev/null || { apt-get update -qq && apt-get install -qq -y --no-install-recommends faketime; }
	command -v npm > /dev/null || { apt-get update -qq && apt-get install -qq -y --no-install-recommends npm; }
	npm install --no-audit --no-fund --loglevel=error
	touch $@

# The site is built from the source, which is read and not imported: no torch is installed for it.
$(READY_DOCS): pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALLER) install --quiet -c constraints.txt $$($(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['docs'])")
	touch $@
