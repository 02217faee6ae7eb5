// SPDX-License-Identifier: GPL-2.0-only

//! The tests of the module and the tools on a running kernel. They are built and run by
//! `scripts/sandbox-tests`, as root inside the sandbox's guest, one after the other.

mod balance;
mod beside_perf;
mod boot;
mod children;
mod clocks;
mod compile;
mod hostile;
mod kinds;
mod latency;
mod layout;
mod lifetime;
mod mapped;
mod namespaces;
mod numbers;
mod order;
mod record;
mod recorder;
mod refusals;
mod rings;
mod sessions;
mod sideband;
mod symbols;
mod tool;
mod waiting;
