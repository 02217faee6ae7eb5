// SPDX-License-Identifier: GPL-2.0-only

//! The tests of the module and the tools on a running kernel. They are built and run by
//! `tests/guest/run`, as root inside the sandbox's guest, one after the other.

mod answers;
mod around;
mod balance;
mod beside_perf;
mod boot;
mod children;
mod chosen;
mod clocks;
// The sandbox keeps a tree to compile in for this processor alone.
#[cfg(target_arch = "x86_64")]
mod compile;
mod deaf;
mod examples;
mod failing;
mod hook;
mod hostile;
mod kinds;
mod lab;
mod latency;
mod layout;
mod lifetime;
mod limits;
mod lockdown;
mod machine;
mod mapped;
mod namespaces;
mod numa;
mod numbers;
mod on_demand;
mod on_exec;
mod order;
mod own;
mod realtime;
mod record;
mod recorder;
mod refusals;
mod rights;
mod rings;
mod rotated;
mod selected;
mod sessions;
mod sideband;
mod sizes;
mod stacks;
mod symbols;
mod tool;
mod waiting;
mod without_leaks;
