# `make help` lists what there is to do. Outputs: build/ (native), dist/ (JavaScript), bin/ (launchers), src/cri/generated/.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# deps comes before build, also with -j; native/ still builds in parallel.
.NOTPARALLEL:
MAKEFLAGS += --no-builtin-rules --no-print-directory

BIN := node_modules/.bin
PROTOS := $(shell find proto -name '*.proto')
SOURCES := $(shell find src test bench -name '*.ts' -not -path 'src/cri/generated/*' 2>/dev/null)
GENERATED := src/cri/generated/.stamp
NODE_MODULES := node_modules/.package-lock.json
# gcc and libc6-dev for the addon, musl-tools and linux-libc-dev for the helper, libisal-dev, libzstd-dev, nettle-dev, liblzma-dev, libbz2-dev and libxxhash-dev for unpack.
BUILD_PACKAGES := gcc make libc6-dev musl-tools linux-libc-dev libisal-dev libzstd-dev nettle-dev liblzma-dev libbz2-dev libxxhash-dev protobuf-compiler
# What goes into the image made on the spot.
RUN_PACKAGES := $(BUILD_PACKAGES) busybox-static
# A registry to pull from with and without passwords, a look at the network and at labels, the yardsticks of seccomp filters
# and AppArmor profiles, an OCI runtime that is not berth, and repositories to build from.
TEST_PACKAGES := $(RUN_PACKAGES) attr docker-registry apache2-utils iproute2 openssl libseccomp-dev apparmor crun git
# A server of ssh that repositories are reached by, and what makes keys.
TEST_PACKAGES += openssh-client openssh-server
# To look at extended attributes with bytes in them.
TEST_PACKAGES += python3-minimal
# A bus whose reading of D-Bus is not berth's.
TEST_PACKAGES += dbus-daemon
# Networks of pods by plugins, and a look at the rules of the kernel.
TEST_PACKAGES += containernetworking-plugins iptables nftables
# To make layers otherwise than berth does, and disks that get full.
TEST_PACKAGES += tar zstd xz-utils bzip2 e2fsprogs
# A guest with systemd and cgroup v2 to run tests in.
TEST_PACKAGES += qemu-system-x86 debootstrap

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: deps
deps: $(NODE_MODULES) ## install what building and testing need: Debian packages (as root) and npm modules
	@$(call install,$(TEST_PACKAGES))

# Installs the Debian packages that are missing; as another user than root, says which. Servers among them (sshd, a registry)
# are for tests alone, which start them themselves: none is started by its package, now or at the next boot.
define install
	missing=; for package in $(1); do \
	  [[ $$(dpkg-query -W -f '$${db:Status-Status}' $$package 2>/dev/null) == installed ]] || missing+=" $$package"; \
	done; \
	[[ -n $$missing ]] || exit 0; \
	if [[ $$(id -u) != 0 ]]; then \
	  echo "These Debian packages are missing and only root can install them: sudo apt-get install$$missing" >&2; exit 1; \
	fi; \
	policy=/usr/sbin/policy-rc.d; \
	if [[ ! -e $$policy ]]; then \
	  trap "rm -f $$policy" EXIT; printf '#!/bin/sh\nexit 101\n' >$$policy; chmod 755 $$policy; \
	fi; \
	apt-get update -q -o Acquire::Retries=5 && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -qy -o Acquire::Retries=5 --no-install-recommends $$missing || exit; \
	[[ -d /run/systemd/system ]] || exit 0; \
	for unit in $$(dpkg -L $$missing | sed -n 's|.*/systemd/system/\([^/]*\.service\)$$|\1|p'); do \
	  systemctl disable -q $$unit || true; \
	done
endef

# The lock file's versions and hashes, as with npm ci, which however refuses to start when a registry lacks an optional
# package of another platform. A node_modules that is a symlink belongs to another checkout and is left alone.
$(NODE_MODULES): package-lock.json
	@if [[ ! -L node_modules ]]; then npm install --no-save --no-audit --no-fund && touch $@; fi

.PHONY: proto
proto: $(GENERATED) ## message types from proto/

# bigint: 64-bit integers do not fit a number. No JSON methods: nothing reads them.
TS_PROTO_OPTIONS := env=node,forceLong=bigint,esModuleInterop=true,outputServices=grpc-js,$\
	unrecognizedEnum=false,outputJsonMethods=false,exportCommonSymbols=false,annotateFilesWithVersion=false

$(GENERATED): $(PROTOS) Makefile | $(NODE_MODULES)
	@rm -rf $(@D) && mkdir -p $(@D)
	protoc -Iproto --plugin=protoc-gen-ts_proto=$(BIN)/protoc-gen-ts_proto \
	  --ts_proto_out=$(@D) --ts_proto_opt=$(TS_PROTO_OPTIONS) $(PROTOS:proto/%=%)
	@touch $@

.PHONY: native
native: ## the addon, the helper and unpack
	@if [[ -e native/Makefile ]]; then $(MAKE) -C native; fi

dist/.stamp: $(SOURCES) $(GENERATED) tsconfig.json
	$(BIN)/tsc -p .
	@touch $@

dist/bundle/.stamp: dist/.stamp $(wildcard scripts/*)
	node scripts/bundle.mjs
	@touch $@

.PHONY: build
build: $(NODE_MODULES) native dist/bundle/.stamp ## everything that bin/berthd and bin/berth run

.PHONY: test
test: deps build ## lint and all tests; the last line is the count
	@node dist/test/support/run-tests.js

FILES ?=

.PHONY: test-vm
test-vm: deps build ## tests in a virtual machine with systemd and cgroup v2: FILES='test/cri/oom.test.ts …', or a choice
	@node dist/test/vm/main.js $(FILES)

# What the fuzzers are built with, and what gives the lines of a finding their names.
FUZZ_PACKAGES := $(BUILD_PACKAGES) clang libclang-rt-dev llvm

.PHONY: check-fuzz
check-fuzz: ## fuzz what reads hostile bytes, FUZZ_SECONDS=20 each; fails on a finding (as root)
	@$(call install,$(FUZZ_PACKAGES))
	@$(MAKE) -C native check-fuzz

.PHONY: run
run: $(NODE_MODULES) ## a daemon and one container, then all is removed; IMAGE=registry/name:tag, STAY=1, ROOT=dir, STATE=dir
	@$(call install,$(RUN_PACKAGES))
	@$(MAKE) build
	@node scripts/run.mjs

# Prettier walks what is ignored, too: a guest's root that is being made in build/ has a /proc of its own.
FORMATTED = $(filter-out bin build coverage dist node_modules,$(wildcard *)) $(wildcard .*.json)

.PHONY: lint
lint: $(GENERATED) ## eslint and prettier
	$(BIN)/eslint .
	$(BIN)/prettier --check --ignore-unknown --log-level warn $(FORMATTED)

.PHONY: unused
unused: $(GENERATED) ## files, exports and packages that nothing uses
	$(BIN)/knip

.PHONY: format
format: dist/.stamp ## prettier, and the README's table of config keys
	node dist/test/support/config-table.js README.md
	$(BIN)/prettier --write --ignore-unknown --log-level warn $(FORMATTED)

# What berth is measured against; a peer that cannot be installed is left out, and the benchmark says so.
BENCH_PACKAGES := runc crun containerd skopeo umoci zstd buildah

.PHONY: bench-peers
bench-peers:
	@missing=; for package in $(BENCH_PACKAGES); do \
	  [[ $$(dpkg-query -W -f '$${db:Status-Status}' $$package 2>/dev/null) == installed ]] || missing+=" $$package"; \
	done; \
	[[ -z $$missing || $$(id -u) != 0 ]] || DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $$missing || true

.PHONY: bench-build
bench-build: deps build bench-peers ## measure building an image, cold and cached, beside buildah (as root)
	@node dist/bench/build.js

.PHONY: bench
bench: deps build bench-peers ## measure containers and pods beside runc, crun and containerd (as root)
	@node dist/bench/launch.js
	@node dist/bench/cri.js

.PHONY: bench-start
bench-start: deps build bench-peers ## measure starts, execs, stops, memory and restarts beside the peers (as root)
	@node dist/bench/start.js
	@node dist/bench/restore.js

.PHONY: bench-stream
bench-stream: deps build bench-peers ## measure logs, streaming execs and ExecSync with much output beside containerd (as root)
	@node dist/bench/stream.js

.PHONY: bench-list
bench-list: deps build bench-peers ## measure lists, stats and idle pods, 10 to 500, beside containerd (as root)
	@node dist/bench/list.js

.PHONY: bench-pull
bench-pull: deps build bench-peers ## measure pulling an image beside containerd, skopeo and umoci (as root)
	@node dist/bench/pull.js

PREFIX ?= /usr/local
DESTDIR ?=

.PHONY: install
install: build ## below PREFIX (/usr/local), with a systemd unit; DESTDIR=dir for packages
	@node scripts/install.mjs '$(PREFIX)' '$(DESTDIR)'

.PHONY: uninstall
uninstall: ## what install has put there; images and containers stay
	rm -rf '$(DESTDIR)$(PREFIX)/lib/berth' '$(DESTDIR)$(PREFIX)/bin/berthd' '$(DESTDIR)$(PREFIX)/bin/berth' \
	  '$(DESTDIR)$(PREFIX)/lib/systemd/system/berthd.service'

.PHONY: bench-network
bench-network: deps build bench-peers ## measure a pod's network beside the plugins alone and containerd (as root)
	@node dist/bench/network.js

.PHONY: clean
clean: ## remove what was built
	rm -rf build dist bin coverage src/cri/generated
