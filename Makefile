# Every target sets up what it needs. `make demo` and `make test` are all a newcomer has to know.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Where the demo writes, and what else to hand to pytest: make test ARGS='-k health'.
OUT ?= out
ARGS ?=
# Idle OpenMP threads sleep instead of spinning: on a busy machine a ninefold difference.
export OMP_WAIT_POLICY := PASSIVE

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-scanner test interop lint format bench soak training-data quality compare proto interop-venv triton-venv clean

help:
	@echo "make demo    simulate a head, reconstruct it, show the figures and a picture"
	@echo "make demo-scanner  a scan at the rate of a scanner, whose slices appear one by one while later ones are measured"
	@echo "make test    the tests"
	@echo "make interop  tests against independent tools, as far as they are installed"
	@echo "make lint    style, types, import contract, wire contract"
	@echo "make format  put the style right"
	@echo "make bench   overhead and memory of the service"
	@echo "make soak    memory of the service over 2,000 reconstructions"
	@echo "make training-data  fetch the heads that training data are simulated from"
	@echo "make quality  figures of all reconstructions on held-out heads: docs/quality.md"
	@echo "make interop-venv  pulserver (a virtual scanner) and fastmri, which tests compare with, in environments of their own"
	@echo "make triton-venv  Triton Inference Server, in an environment of its own"
	@echo "make compare  recond beside Triton, LitServe and a plain gRPC loop: docs/performance.md"
	@echo "make proto   generate the wire code again"
	@echo "make setup   the environment alone (PYTHON=python3.12 to choose)"
	@echo "make clean   remove all that these made"

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

# The head that is simulated: only the data files of this package are read, so its dependencies stay away.
$(VENV)/.head: $(VENV)/.ready
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt nilearn
	touch $@

# Third-party scanner, networks and Triton servers for tests/interop, apart from ours because they pin other things; torch and the
# like are shared.
interop-venv: $(VENV)-pulserver/.ready $(VENV)-fastmri/.ready triton-venv

triton-venv: $(VENV)-triton/.ready

$(VENV)-%/.ready: tests/interop/%.txt $(VENV)/.ready
	$(BIN)/python -m venv $(VENV)-$*
	$(VENV)-$*/bin/pip install --quiet --disable-pip-version-check --no-deps -r $<
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" \
		> $$($(VENV)-$*/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/project.pth
	touch $@

demo: $(VENV)/.head
	@$(BIN)/python examples/demo.py $(OUT)

demo-scanner: $(VENV)/.head
	@$(BIN)/python examples/demo_scanner.py $(OUT)

# A process of tests on each core, up to four: each may have a service, with its worker. Free ones take tests from those that lag.
# One thread each; single tests go faster without all that: .venv/bin/pytest tests/test_house.py
test: $(VENV)/.head
	OMP_NUM_THREADS=1 $(BIN)/pytest tests --ignore=tests/interop -n auto --maxprocesses 4 --dist worksteal $(ARGS)

# Those against independent tools; each skips and says so where its tool is missing. .ci/run installs the tools.
interop: $(VENV)/.head
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/interop -n auto --maxprocesses 4 --dist worksteal $(ARGS)

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint proto

format: $(VENV)/.ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.head
	$(BIN)/pytest bench --benchmark-only $(ARGS)

soak: $(VENV)/.ready
	PYTHONPATH=tests/support $(BIN)/python bench/soak.py --json $(OUT)/soak.json $(ARGS)

training-data: $(VENV)/.head
	$(BIN)/python -m recond_models.training.packages $(OUT)/volumes

# Goes on where it ended, and makes new weights' columns alone: make quality ARGS=--quick for eight cells, ARGS='--only report' to render.
quality: training-data
	$(BIN)/python bench/quality --volumes $(OUT)/volumes $(ARGS)

# recond beside Triton, LitServe and a plain gRPC loop; half an hour on an otherwise idle machine.
compare: $(VENV)/.head triton-venv $(VENV)-litserve/.ready
	$(BIN)/python bench/compare $(ARGS)

$(VENV)-litserve/.ready: bench/compare/litserve.txt $(VENV)/.ready
	$(BIN)/python -m venv $(VENV)-litserve
	$(VENV)-litserve/bin/pip install --quiet --disable-pip-version-check --no-deps -r $<
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" \
		> $$($(VENV)-litserve/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/project.pth
	touch $@

proto: $(VENV)/.ready
	$(BIN)/python -m grpc_tools.protoc -I proto --python_out=proto --pyi_out=proto --grpc_python_out=proto proto/recond/v1/*.proto

clean:
	rm -rf $(VENV) $(VENV)-pulserver $(VENV)-fastmri $(VENV)-triton $(VENV)-litserve $(OUT) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .benchmarks
