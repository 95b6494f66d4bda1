# skerry's build. `make help` lists the targets; each installs by itself what it needs and the machine lacks.

PREFIX ?= /usr/local
DESTDIR ?=
RUNTIME ?= $(CURDIR)/bin/skerry
PYTEST ?=
SETUP ?= tools/setup

MAKEFLAGS += --no-print-directory
ARCH := $(shell uname -m)
# Looked up when it is used: `setup` may have installed it by then.
PYTHON = $(or $(shell tools/find_python),$(error no Python 3.11 or newer: run tools/setup build))
VENV = .venv/bin/python
SOURCES := $(shell find src -name '*.py')
# Programs that the tests start import the package too, so the path is in the environment.
# SKERRY_ROUNDS (see CONTRIBUTING.md) makes some tests long; the limit for one test is there to find those that hang.
PYTEST_RUN = PYTHONPATH=$(CURDIR)/src PYTHONDONTWRITEBYTECODE=1 RUNTIME=$(abspath $(RUNTIME)) $(VENV) -B -m pytest \
	$(if $(SKERRY_ROUNDS),-o faulthandler_timeout=7200) $(PYTEST)

# The launcher's other names: containerd finds the shims of io.containerd.skerry.v2 and io.containerd.skerry-vm.v2 by them.
SHIMS = containerd-shim-skerry-v2 containerd-shim-skerry-vm-v2
# These keep machines or daemons as long as they run, which the others' questions for what is left would find: each has a
# process of its own.
VM_SUITES = tests/vm/agent tests/vm/machine tests/vm/engine
DAEMON_SUITES = tests/containerd tests/docker
# Where a wheel puts the package, relative to the directory above bin/, whatever the interpreter's version is.
VERSIONS = 11 12 13 14 15 16 17 18 19
WHEEL_ROOTS = $(foreach v,$(VERSIONS),lib/python3.$v/site-packages lib/python3.$v/dist-packages)

.DEFAULT_GOAL := build
.PHONY: help setup build init launcher check test test-unit test-init test-kernel test-install test-oci test-podman \
	test-docker test-shim test-containerd test-vm test-oci-vm image bench bench-containerd bench-vm demo docs install uninstall wheel wheel-programs dist clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

build: setup init launcher build/compiled ## bin/skerry, ready to run from this checkout (the default)

setup:
	@$(SETUP) build

init: setup ## skerry-init for every architecture there is a compiler for
	@$(MAKE) -C init
	@cmp -s build/$(ARCH)/skerry-init src/skerry/skerry-init || \
		install -m 0755 build/$(ARCH)/skerry-init src/skerry/skerry-init

launcher: setup
	@$(MAKE) -C launcher OUT=$(CURDIR)/bin/skerry ROOTS=src PYTHONS=$(PYTHON)
	@for name in $(SHIMS); do ln -f bin/skerry bin/$$name; done

# The installed interpreter never writes bytecode (-B), so without this a checkout would compile itself at every start.
build/compiled: $(SOURCES) | setup
	@$(PYTHON) -m compileall -q src && mkdir -p build && touch $@

.venv/ready: requirements-dev.txt
	@$(SETUP) test
	@echo "setup: .venv with $$(grep -c == requirements-dev.txt) pinned tools"
	@$(PYTHON) -m venv --clear .venv && .venv/bin/pip install -qq -r requirements-dev.txt && touch $@

check: build .venv/ready ## style, unit and golden tests (what a commit hook would call)
	@$(PYTEST_RUN) tests/style tests/unit tests/golden

test: build .venv/ready ## everything: style, unit, init, kernel, install, oci, podman, docker, shim, containerd, vm
	@$(SETUP) test
	@failed=; for part in "tests $(patsubst %,--ignore=%,tests/vm $(DAEMON_SUITES))" $(DAEMON_SUITES) $(VM_SUITES); do $(PYTEST_RUN) $$part || failed="$$failed $$part"; done; \
	[ -z "$$failed" ] || { echo "failed:$$failed" >&2; exit 1; }

test-unit: build .venv/ready ## pure tests: plans, validation, parsing, tables; PYTEST=--update writes printed plans anew
	@$(PYTEST_RUN) tests/unit tests/golden

test-init: build .venv/ready ## skerry-init alone
	@$(PYTEST_RUN) tests/init

test-kernel: build .venv/ready ## single steps on the real kernel (root)
	@$(PYTEST_RUN) tests/kernel

test-install: build .venv/ready ## checkout, make install and pip install start the interpreter alike
	@$(PYTEST_RUN) tests/install

test-oci: build .venv/ready ## the black-box suite; RUNTIME=/usr/sbin/runc runs it on another runtime
	@$(PYTEST_RUN) tests/oci

test-oci-vm: build .venv/ready ## the black-box suite with every container in a VM (an hour without KVM)
	@ISOLATION=vm $(PYTEST_RUN) tests/oci

test-podman: build .venv/ready ## podman and conmon drive the runtime; RUNTIME= as above
	@$(PYTEST_RUN) tests/podman

test-vm: build .venv/ready ## guests under QEMU: the agent, the machine, the engine (root)
	@$(SETUP) test
	@failed=; for part in $(VM_SUITES); do $(PYTEST_RUN) $$part || failed="$$failed $$part"; done; \
	[ -z "$$failed" ] || { echo "failed:$$failed" >&2; exit 1; }

image: build ## the guest image of vm isolation, from this machine's kernel and interpreter
	@$(RUNTIME) image build

test-docker: build .venv/ready ## dockerd and containerd's runc shim drive the runtime
	@$(SETUP) test
	@$(PYTEST_RUN) tests/docker

test-shim: build .venv/ready ## the shim of containerd, driven by a stand-in for containerd (root)
	@$(PYTEST_RUN) tests/shim

test-containerd: build .venv/ready ## containerd drives the shims of runc and skerry; HANDLERS=runc for one of them
	@$(SETUP) test
	@$(if $(HANDLERS),HANDLERS=$(HANDLERS)) $(PYTEST_RUN) tests/containerd

# What is measured is the installed program, as users have it.
bench: build ## interleaved with runc and crun; writes docs/benchmarks.md (ROUNDS=, CONTAINERS=)
	@$(SETUP) test
	@$(MAKE) install PREFIX=$(CURDIR)/build/bench
	@$(PYTHON) -B tools/bench_start --skerry build/bench/bin/skerry $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(CONTAINERS),--containers $(CONTAINERS))

bench-vm: build ## pods in VMs; writes docs/benchmarks-vm.md (ROUNDS=)
	@$(PYTHON) -B tools/bench_vm $(if $(ROUNDS),--rounds $(ROUNDS))

bench-containerd: build .venv/ready ## below containerd, beside runc and crun; writes docs/benchmarks-containerd.md (ROUNDS=, IDLE_PODS=, PODS=)
	@$(SETUP) test
	@$(MAKE) install PREFIX=$(CURDIR)/build/bench
	@$(VENV) -B tools/bench_containerd --bin build/bench/bin $(if $(ROUNDS),--rounds $(ROUNDS)) \
		$(if $(IDLE_PODS),--idle-pods $(IDLE_PODS)) $(if $(PODS),--pods $(PODS))

demo: build ## makes a bundle, shows its plan, and takes a container through its life (root)
	@$(SETUP) demo
	@tools/demo

docs: build .venv/ready ## print the tables of the documents from the code
	@$(VENV) -B tools/print_tables.py

# Bytecode is compiled against its final path and never compared with the sources: the tree is replaced as a whole.
install: LIB = $(DESTDIR)$(PREFIX)/lib/skerry
install: build ## PREFIX (/usr/local), DESTDIR
	@$(MAKE) -C launcher OUT=$(CURDIR)/build/install/skerry ROOTS=lib/skerry PYTHONS=$(PYTHON)
	@umask 022 && rm -rf "$(LIB)" && install -d "$(LIB)" "$(DESTDIR)$(PREFIX)/bin" && \
	cd src && find skerry -name '*.py' -exec install -D -m 0644 {} "$(LIB)/{}" \; && \
	install -m 0755 skerry/skerry-init "$(LIB)/skerry/skerry-init" && \
	$(PYTHON) -X no_debug_ranges $(CURDIR)/tools/make_archive "$(LIB)" "$(PREFIX)/lib/skerry" && \
	$(PYTHON) -m compileall -q --invalidation-mode unchecked-hash $(if $(DESTDIR),-s "$(DESTDIR)") "$(LIB)" && \
	$(PYTHON) $(CURDIR)/tools/make_snapshot "$(LIB)" "$(PREFIX)/lib/skerry" && \
	for name in skerry $(SHIMS); do \
		install -m 0755 $(CURDIR)/build/install/skerry "$(DESTDIR)$(PREFIX)/bin/$$name" || exit 1; \
	done
	@echo "installed $(DESTDIR)$(PREFIX)/bin/skerry and $(SHIMS)"

uninstall: ## removes what install made
	rm -rf "$(DESTDIR)$(PREFIX)/lib/skerry" "$(DESTDIR)$(PREFIX)/bin/skerry" \
		$(SHIMS:%="$(DESTDIR)$(PREFIX)/bin/%")

wheel: build ## dist/*.whl with the two static programs
	@mkdir -p dist && $(PYTHON) -B tools/build_backend.py wheel

dist: build ## the wheel and the source archive
	@mkdir -p dist && $(PYTHON) -B tools/build_backend.py wheel sdist

# What the wheel needs compiled; its launcher looks for the interpreter beside itself (a virtual environment) first.
wheel-programs: init
	@$(MAKE) -C launcher OUT=$(CURDIR)/build/wheel/skerry ROOTS="$(WHEEL_ROOTS)" PYTHONS="python3 /usr/bin/python3"

clean: ## everything the build made, .venv excepted
	@$(MAKE) -C init clean
	rm -rf build dist bin src/skerry/skerry-init
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
