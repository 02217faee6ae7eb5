# SPDX-License-Identifier: GPL-2.0-only
#
# fault-tracer: the kernel module and its tools.
#
#   make                 build both for this machine's kernel (or KDIR=…)
#   make tools           build the tools alone: reading traces needs no module
#   make install         install the tools, manual pages, completions and the device's rule (PREFIX, DESTDIR)
#   make uninstall       remove what make install has installed
#   make modules_install install the module for this machine's kernel
#   make dkms_install    install the module's source for DKMS, which builds it for each kernel (DESTDIR)
#   make demo            set up the sandbox, trace a real program in it, draw its faults
#   make check           formatting and lints of all languages
#   make test            all checks and tests, in the sandbox
#   make test-kernels    all tests of guests on every kernel that the sandbox can have, rt and cloud, too, by either hook
#   make test-debug-kernel all tests of guests on a kernel that looks for mistakes: KASAN, lockdep, failing allocations
#   make test-arm64      all tests of guests on arm64, with pages of 4 KiB and of 16 KiB
#   make fuzz-abi        call the device at random: SEED=1 CALLS=1000000 make it other calls, and more
#   make report          regenerate docs/report.md and its figures
#   make lab             trace Linux's ways of moving bytes, and write docs/io-lab.md
#   make packages        make Debian packages, in the sandbox: build/packages/*.deb
#   make bench           measure what it and other tracers cost, and write docs/benchmarks.md
#   make rust-analyzer   write rust-project.json, by which editors understand the module
#   make clean           remove all that building leaves

KDIR ?= /lib/modules/$(shell uname -r)/build
# rustc must be the one that the kernel was built with; say RUSTC=… where another comes first on PATH.
RUSTC ?= rustc
# Where make install puts things.
PREFIX ?= /usr/local
DESTDIR ?=

.PHONY: all modules tools install uninstall modules_install dkms_install clean check demo test test-kernels test-debug-kernel test-arm64 fuzz-abi report lab packages bench rust-analyzer help

all: modules tools

modules:
	@RUSTC='$(RUSTC)' scripts/check-kernel '$(KDIR)'
	$(MAKE) -C '$(KDIR)' M='$(CURDIR)' RUSTC='$(RUSTC)' modules

tools:
	scripts/build-tools

modules_install:
	$(MAKE) -C '$(KDIR)' M='$(CURDIR)' RUSTC='$(RUSTC)' modules_install

install uninstall:
	@PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' scripts/install $@

dkms_install:
	@DESTDIR='$(DESTDIR)' scripts/install dkms-source

clean:
	scripts/clean

check:
	scripts/check

demo:
	scripts/demo

test:
	scripts/test

test-kernels:
	scripts/vm add rt cloud
	tests/guest/run --full --each-hook

# Its release is the last that is listed; it is built if it is not there.
test-debug-kernel:
	scripts/vm add debug
	tests/guest/run --kernel "$$(scripts/vm kernels --all | tail -n 1)"

test-arm64:
	scripts/vm add arm64
	tests/guest/run --arch arm64

SEED ?= 1
CALLS ?= 1000000
fuzz-abi:
	tests/guest/run --cpus 2 --env FT_SEED=$(SEED) --env FT_CALLS=$(CALLS) hostile::

report:
	scripts/report

lab:
	scripts/lab

packages:
	scripts/build-packages

bench:
	scripts/bench

rust-analyzer:
	$(MAKE) -C '$(KDIR)' M='$(CURDIR)' RUSTC='$(RUSTC)' rust-analyzer

help:
	@sed -n '/^#   make/s/^# \{0,1\}//p' Makefile
