// SPDX-License-Identifier: GPL-2.0-only

//! fault_tracer: records the page faults of chosen processes.
//!
//! A kprobe on `handle_mm_fault` writes a record for each fault of a target into a ring of the CPU it
//! happens on; `/dev/fault_tracer` sets up sessions and drains them. This file is the wiring: the
//! parameters, and the order in which things come and go.
//!
//! | module | holds | may know |
//! |---|---|---|
//! | `uapi` | the ABI | nothing |
//! | `compat` | what differs between kernel series | nothing |
//! | `arch` | the processor: registers, per-CPU variables, page tables, clock | `uapi` |
//! | `process` | processes, held by reference | `arch` |
//! | `ring` | the per-CPU ring, `core` alone | `uapi` |
//! | `rings` | a session's rings: memory and account | `arch`, `process`, `ring` |
//! | `probe` | kprobes, return hooks and tracepoints as values | `compat` |
//! | `ftrace` | an ftrace hook as a value | `arch`, `probe` |
//! | `clock` | the clocks of the records | `arch` |
//! | `translation` | what the page tables say of an address | `arch` |
//! | `layout` | whether the kernel's structures are as the module expects | nothing |
//! | `elf` | a file's build id | nothing |
//! | `page_cache` | what of a file is in memory | `elf`, `arch` |
//! | `filter` | which faults of its targets a session records | `uapi` |
//! | `path` | paths of open files, without a lock | `arch` |
//! | `sideband` | records of mappings and tasks | `ring`, `translation`, `page_cache`, `path` |
//! | `stack` | the user stack of a fault | `ring`, `arch` |
//! | `rules` | which processes a session traces by what they are | `process` |
//! | `rights` | who may trace what | `process`, `targets` |
//! | `targets` | process id to sessions | `probe`, `rules` |
//! | `wake` | waking readers from the fault path | nothing |
//! | `around` | how many pages a fault has mapped beside its own | `arch` |
//! | `latency` | whose faults' returns are hooked, and what is kept until then | `probe`, `around` |
//! | `plain` | the record of a fault at which there is nothing else to do | `rings`, `clock`, `arch`, `latency` |
//! | `recorder` | the data path: what happens on a fault | `plain`, `targets` |
//! | `tasks` | fork, exec, names and exits: follows and tells of them | `recorder` |
//! | `registry` | which sessions run; arms the probes | all above |
//! | `session` | one session: its set-up and state | `registry` |
//! | `reading` | how its records get out: drain, mapping, poll | `session` |
//! | `boot` | the session of the module parameters | `session` |
//! | `device` | file operations and ioctls | `reading`, `boot` |

use kernel::prelude::*;

#[cfg_attr(target_arch = "x86_64", path = "fault_tracer/arch/x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "fault_tracer/arch/arm64.rs")]
mod arch;
#[path = "fault_tracer/around.rs"]
mod around;
#[path = "fault_tracer/boot.rs"]
mod boot;
#[path = "fault_tracer/clock.rs"]
mod clock;
#[path = "fault_tracer/compat.rs"]
mod compat;
#[path = "fault_tracer/device.rs"]
mod device;
#[expect(unreachable_pub, reason = "shared with the tests on the host")]
#[path = "fault_tracer/elf.rs"]
mod elf;
#[path = "fault_tracer/filter.rs"]
mod filter;
#[path = "fault_tracer/ftrace.rs"]
mod ftrace;
#[path = "fault_tracer/latency.rs"]
mod latency;
#[path = "fault_tracer/layout.rs"]
mod layout;
#[path = "fault_tracer/page_cache.rs"]
mod page_cache;
#[path = "fault_tracer/path.rs"]
mod path;
#[path = "fault_tracer/plain.rs"]
mod plain;
#[path = "fault_tracer/probe.rs"]
mod probe;
#[path = "fault_tracer/process.rs"]
mod process;
#[path = "fault_tracer/reading.rs"]
mod reading;
#[path = "fault_tracer/recorder.rs"]
mod recorder;
#[path = "fault_tracer/registry.rs"]
mod registry;
#[path = "fault_tracer/rights.rs"]
mod rights;
#[expect(unreachable_pub, reason = "shared with the tests on the host")]
#[path = "fault_tracer/ring.rs"]
mod ring;
#[path = "fault_tracer/rings.rs"]
mod rings;
#[path = "fault_tracer/rules.rs"]
mod rules;
#[path = "fault_tracer/session.rs"]
mod session;
#[path = "fault_tracer/sideband.rs"]
mod sideband;
#[path = "fault_tracer/stack.rs"]
mod stack;
#[path = "fault_tracer/targets.rs"]
mod targets;
#[path = "fault_tracer/tasks.rs"]
mod tasks;
#[path = "fault_tracer/translation.rs"]
mod translation;
#[expect(dead_code, unreachable_pub, reason = "shared with user space")]
#[path = "uapi/fault_tracer.rs"]
mod uapi;
#[path = "fault_tracer/wake.rs"]
mod wake;

/// The atomics of the ring; its tests on the host put others in their place.
mod sync {
    pub(crate) use core::sync::atomic::{fence, AtomicU64, Ordering};
}

module! {
    type: FaultTracer,
    name: "fault_tracer",
    authors: ["The fault-tracer authors"],
    description: "Records the page faults of chosen processes",
    license: "GPL v2",
    params: {
        pid: i32 {
            default: 0,
            description: "Process to trace from now on, as seen by who loads the module (0: none)",
        },
        follow: i32 {
            default: 1,
            description: "1: the children that the process forks are traced too; 0: they are not",
        },
        log: i32 {
            default: 0,
            description: "1: also print every fault of the process to the kernel log",
        },
        ring_kib: i32 {
            default: 1024,
            description: "Ring for the process's faults, KiB per CPU, a power of two from 4, or a page, to 1048576; the newest faults are kept",
        },
    },
}

/// The module. Fields are dropped in this order: no new files, then the boot session.
struct FaultTracer {
    _device: device::Device,
    _boot: Boot,
}

/// The module's parameters, as they were given.
struct Parameters {
    pid: i32,
    follow: bool,
    log: bool,
    ring_bytes: u64,
}

/// Reads a parameter that is 0 or 1.
fn switch(name: &str, value: i32) -> Result<bool> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        other => {
            pr_err!("{}={} makes no sense: it is 0 or 1\n", name, other);
            Err(EINVAL)
        }
    }
}

impl Parameters {
    fn read() -> Result<Self> {
        let pid: i32 = compat::parameter(module_parameters::pid.value());
        let follow: i32 = compat::parameter(module_parameters::follow.value());
        let log: i32 = compat::parameter(module_parameters::log.value());
        let ring_kib: i32 = compat::parameter(module_parameters::ring_kib.value());
        if pid < 0 {
            pr_err!(
                "pid={} is no process id: it must be positive, or 0 for none\n",
                pid
            );
            return Err(EINVAL);
        }
        let ring_bytes = u64::try_from(ring_kib).unwrap_or(0).wrapping_mul(1024);
        if let Err(reason) = session::check_ring_bytes(ring_bytes) {
            pr_err!("ring_kib={} is refused: {}\n", ring_kib, reason);
            return Err(EINVAL);
        }
        let log = switch("log", log)?;
        if log && pid == 0 {
            pr_err!("log=1 needs pid=N: only the process named there is printed\n");
            return Err(EINVAL);
        }
        Ok(Self {
            pid,
            follow: switch("follow", follow)?,
            log,
            ring_bytes,
        })
    }
}

/// The boot session, if there is one. Says the totals when it ends.
struct Boot(Option<i32>);

impl Boot {
    fn start(parameters: &Parameters) -> Result<Self> {
        if parameters.pid == 0 {
            pr_info!("loaded; no process is traced yet (fault-tracer drain --pid N traces one)\n");
            return Ok(Self(None));
        }
        boot::start(
            parameters.pid,
            parameters.ring_bytes,
            parameters.follow,
            parameters.log,
        )?;
        pr_info!(
            "loaded; tracing process {}{}, {} KiB of ring per CPU, newest faults kept{}\n",
            parameters.pid,
            if parameters.follow {
                " and its future children"
            } else {
                ""
            },
            parameters.ring_bytes / 1024,
            if parameters.log {
                ", every fault printed here"
            } else {
                " (fault-tracer drain reads them)"
            },
        );
        Ok(Self(Some(parameters.pid)))
    }
}

impl Drop for Boot {
    fn drop(&mut self) {
        match (self.0, boot::end()) {
            (Some(pid), Some(totals)) => {
                pr_info!(
                    "unloaded; process {}: {} faults hit = {} recorded + {} dropped + {} overwritten; {} missed\n",
                    pid,
                    totals.faults.hits,
                    totals.faults.recorded,
                    totals.faults.dropped,
                    totals.faults.overwritten,
                    totals.missed,
                );
                if let Some(printed) = totals.printed {
                    pr_info!("{} faults were printed\n", printed);
                }
            }
            _ => pr_info!("unloaded; no process was named when it was loaded\n"),
        }
    }
}

impl kernel::Module for FaultTracer {
    fn init(module: &'static ThisModule) -> Result<Self> {
        // SAFETY: First thing in the module's life, once.
        unsafe {
            registry::init();
            arch::page_table::init();
            boot::init();
        }
        let parameters = Parameters::read()?;
        if !arch::user_registers_are_found() {
            pr_err!("this kernel keeps the registers of user space at an unknown place\n");
            return Err(ENOEXEC);
        }
        for structures in [
            probe::LAYOUT,
            ftrace::LAYOUT,
            path::LAYOUT,
            rights::LAYOUT,
            arch::clock::LAYOUT,
        ] {
            layout::compare(structures)?;
        }
        // The boot session first: nothing is left behind if it fails, and nobody can come between.
        let boot = Boot::start(&parameters)?;
        Ok(Self {
            _device: device::Device::register(module)?,
            _boot: boot,
        })
    }
}
