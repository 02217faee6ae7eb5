# SPDX-License-Identifier: GPL-2.0-only
#
# fault-tracer: the kernel module and its tools.
#
#   make                 build both for this machine's kernel (or KDIR=…)
#   make modules_install clean
#   make demo            set up the sandbox, trace a real program in it, draw its faults
#   make test            all checks and tests, in the sandbox
#   make report          regenerate docs/report.md and its figures
#   make bench           measure what it and other tracers cost, and write docs/benchmarks.md

KDIR ?= /lib/modules/$(shell uname -r)/build
# rustc must be the one that the kernel was built with; say RUSTC=… where another comes first on PATH.
RUSTC ?= rustc

.PHONY: all modules tools modules_install clean check demo test report bench help

all: modules tools

modules:
	@RUSTC='$(RUSTC)' scripts/check-kernel '$(KDIR)'
	$(MAKE) -C '$(KDIR)' M='$(CURDIR)' RUSTC='$(RUSTC)' modules

tools:
	scripts/build-tools

modules_install:
	$(MAKE) -C '$(KDIR)' M='$(CURDIR)' RUSTC='$(RUSTC)' modules_install

clean:
	scripts/clean

check:
	scripts/check

demo:
	scripts/demo

test:
	scripts/test

report:
	scripts/report

bench:
	scripts/bench

help:
	@sed -n '3,10s/^# \{0,1\}//p' Makefile
