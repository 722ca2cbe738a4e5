# The developer's interface. Everything runs from .venv, which the first target that needs it creates.
#
#   make run      the demo: two services, a router on 4140, admin on 9990
#   make check    format, lint, types, import contracts
#   make fast     unit and flow tests (seconds)
#   make test     every test
#   make compiled the hot modules as machine code, in place (a C compiler and Python's headers; a minute or two)
#   make wheel    build/dist/hostmesh-*.whl, the compiled core in it, to install elsewhere (docs/operations.md)
#   make pure     takes them away: Python runs as it is, which is how everything begins
#   make bench    cost and latency beside nginx, HAProxy and Envoy   (ARGS="--quick hostmesh envoy")
#   make fuzz     a million generated messages and 100,000 HTTP/2 dialogues through lanes and their judges
#                 (ARGS="--seed 7 --count 50000")
#   make docs     the generated parts of docs/ (tests fail while they are out of date)
#   make lock     requirements.lock and requirements-dev.lock from pyproject.toml
#   make servers  tools that some tests need and that are no dependency of hostmesh

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
ARGS ?=
LOCK := $(BIN)/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe --no-header \
        --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options

.PHONY: run check fast test compiled wheel pure bench fuzz docs lock servers format clean

run: .venv/.installed
	@$(BIN)/hostmesh demo $(ARGS)

check: .venv/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Not named after the folder: "make test" must run although tests/ is never out of date.
fast: .venv/.installed
	@$(BIN)/python -m pytest tests/unit tests/flow -m "not slow" $(ARGS)

# In CI the tools of `servers` must be there (tests/conftest.py fails instead of skipping), so they are made first.
# What is built with Go takes minutes: tests that need it wait for it.
test: .venv/.installed $(if $(CI),servers)
	@$(if $(CI),$(BIN)/python -m tests.servers.fetch)
	@$(if $(CI),($(BIN)/python -m tests.servers.fetch_go_peers; $(BIN)/python -m tests.servers.fetch_kube) >.servers/go.log 2>&1 &) $(BIN)/python -m pytest $(ARGS)

# What is installed elsewhere and what runs in place are the same files.
compiled: wheel
	@$(BIN)/python -m zipfile -e build/dist/*.whl build/wheel
	@cd build/wheel && find . -name '*.so' -exec cp --parents {} ../.. \;
	@$(BIN)/hostmesh --version

# Anew each time: a module that is no longer compiled would still be found.
wheel: .venv/.installed pure
	@command -v $(or $(CC),cc) >/dev/null || { echo "make $@ needs a C compiler, such as gcc"; exit 1; }
	@$(BIN)/python -W ignore -m hostmesh.core_build --quiet build_ext --parallel $$(nproc) bdist_wheel --dist-dir build/dist
	@ls build/dist/*.whl

pure:
	@find hostmesh -name '*.so' -delete
	@rm -rf build hostmesh/core.sha256

bench: .venv/.installed
	@$(BIN)/python -m tests.bench $(ARGS)

fuzz: .venv/.installed
	@$(BIN)/python -m tests.fuzz.lane_vs_h11 $(or $(ARGS),--count 1000000)
	@$(BIN)/python -m tests.fuzz.h2_lane_vs_library $(or $(ARGS),--count 100000)
	@$(BIN)/python -m tests.fuzz.h2_callers --count 3000
	@$(BIN)/python -m tests.fuzz.tls_handshakes --count 10000

docs: .venv/.installed
	@$(BIN)/python -m hostmesh.config.docs > docs/config.md
	@$(BIN)/python -m tests.threat_model

lock: .venv/.installed
	$(LOCK) --output-file requirements.lock pyproject.toml
	$(LOCK) --extra dev --output-file requirements-dev.lock pyproject.toml

servers: .servers/tools/.installed

# kubernetes-validate brings JSON schemas of every Kubernetes version: too heavy for the development environment.
.servers/tools/.installed:
	@$(PYTHON) -m venv .servers/tools
	@.servers/tools/bin/pip install --quiet kubernetes-validate==1.37.0
	@touch $@

.venv/.installed: requirements-dev.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements-dev.lock
	@$(BIN)/python -m pip install -qq --no-deps --no-build-isolation --editable .
	@touch $@

clean: pure
	rm -rf .venv .servers build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
