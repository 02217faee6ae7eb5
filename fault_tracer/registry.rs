// SPDX-License-Identifier: GPL-2.0-only

//! The registry: which sessions are running, and the probes, armed while any is.
//!
//! Everything here runs under one lock, which the fault path does not take. Nothing touches user memory
//! while it is held.

use core::{cell::Cell, ptr::null};
use kernel::{bindings, prelude::*, sync::Arc};

use super::{
    clock::Quick,
    cpu,
    latency::{self, Latency},
    probe::Kprobe,
    process::{self, Executable, Process},
    recorder,
    rings::Rings,
    targets::{self, Table},
    tasks::{self, Hooks},
    uapi::{self, session_flag},
    wake::{self, Wake},
};

kernel::sync::global_lock! {
    // SAFETY: `init` is called by the module's initializer before anything else.
    unsafe(uninit) static REGISTRY: Mutex<Registry> = Registry::new();
}

/// Prepares the registry.
///
/// # Safety
///
/// To be called once, before anything else of this file.
pub(crate) unsafe fn init() {
    // SAFETY: By this function's contract.
    unsafe { REGISTRY.init() };
}

/// What the module records at present.
struct Registry {
    running: [Option<Entry>; uapi::MAX_SESSIONS],
    armed: Option<Armed>,
}

/// The probes. Fields are dropped in this order: no fault looks for a hook or targets that are gone.
struct Armed {
    fault: Kprobe,
    /// While a session asks for it.
    latency: Option<Latency>,
    _clock: Option<Quick>,
    _tasks: Hooks,
    _targets: Table,
}

/// A running session, as the overview shows it.
struct Entry {
    rings: Arc<Rings>,
    config: uapi::Config,
    owner: Owner,
    named: u32,
    first: i32,
    started_ns: i64,
    /// The probe's count when the session started.
    missed_before: u64,
}

/// The process that started a session.
#[derive(Clone, Copy)]
struct Owner {
    pid: i32,
    comm: [u8; 16],
}

impl Owner {
    fn current() -> Self {
        let task = cpu::current_task();
        let mut comm = [0; 16];
        // SAFETY: The running thread's task; its name may change meanwhile but stays 16 bytes.
        let pid = unsafe {
            for (to, from) in comm.iter_mut().zip((*task).comm) {
                *to = from;
            }
            (*task).tgid
        };
        Self { pid, comm }
    }
}

impl Registry {
    const fn new() -> Self {
        Self {
            running: [const { None }; uapi::MAX_SESSIONS],
            armed: None,
        }
    }

    /// Arms the probes if they are not, and tells how many faults they have missed.
    fn arm(&mut self) -> Result<u64> {
        if self.armed.is_none() {
            let table = Table::new()?;
            let tasks = Hooks::new()?;
            let clock = Quick::new();
            let fault = Kprobe::at_entry(c"handle_mm_fault", recorder::on_fault)?;
            self.armed = Some(Armed {
                fault,
                latency: None,
                _clock: clock,
                _tasks: tasks,
                _targets: table,
            });
        }
        Ok(self.missed())
    }

    /// Has the faults' returns hooked, too.
    fn arm_latency(&mut self) -> Result {
        let result = match &mut self.armed {
            Some(armed) if armed.latency.is_none() => {
                Latency::arm(&armed.fault).map(|latency| armed.latency = Some(latency))
            }
            _ => Ok(()),
        };
        if result.is_err() && self.running.iter().all(Option::is_none) {
            self.armed = None;
        }
        result
    }

    fn missed(&self) -> u64 {
        self.armed.as_ref().map_or(0, |armed| armed.fault.missed())
    }

    /// Faults missed while the session has been running.
    fn missed_by(&self, slot: usize) -> u64 {
        match &self.running[slot] {
            Some(entry) => self.missed().wrapping_sub(entry.missed_before),
            None => 0,
        }
    }

    /// Takes a slot back. When this returns, the fault path no longer knows of its session.
    fn end(&mut self, slot: usize) {
        recorder::withdraw(slot);
        wake::withdraw(slot);
        targets::end(slot);
        latency::end(slot);
        let hooked = self.running.iter().enumerate().any(|(other, entry)| {
            let asks = |entry: &Entry| entry.config.flags & session_flag::LATENCY != 0;
            other != slot && entry.as_ref().is_some_and(asks)
        });
        if let Some(armed) = self.armed.as_mut().filter(|_| !hooked) {
            if let Some(latency) = armed.latency.take() {
                latency.disarm(&armed.fault);
            }
        }
        if self.running.iter().flatten().count() > 1 {
            // SAFETY: The call may sleep, and so may all callers.
            unsafe { bindings::synchronize_rcu() };
            targets::forget(slot);
        } else {
            // Nobody else records: the probes go, which waits for whoever runs them, and the table with
            // them.
            self.armed = None;
        }
        if let Some(entry) = self.running[slot].take() {
            entry.rings.tell_losses();
        }
    }
}

/// Makes a process a target of a running session. Gives its id in the initial namespace.
///
/// # Errors
///
/// `ESRCH` if it has ended.
fn target(slot: usize, process: &Process) -> Result<i32> {
    let id = process.live_id().ok_or(ESRCH)?;
    let threads = process.threads();
    targets::add(slot, id);
    // It may have ended before it was in the table, so that the hook did not find it there.
    if process.live_id().is_none() {
        targets::remove(slot, id);
        return Err(ESRCH);
    }
    let executable = process.executable();
    let file = executable.as_ref().map_or(null(), Executable::as_ptr);
    process.each_thread(|thread| {
        // SAFETY: `each_thread` gives live tasks; `executable` keeps the file open.
        unsafe { tasks::tell_present(slot, thread, file) };
    });
    if threads > 1 {
        // Some may have ended before they were told of. Of one that is there still is told again: who has no
        // `PRESENT` has ended before that.
        let told = Cell::new(false);
        process.each_thread(|thread| {
            if !told.get() {
                // SAFETY: As above.
                told.set(unsafe { tasks::tell_present(slot, thread, file) });
            }
        });
    }
    Ok(id)
}

/// Makes all processes targets of a running session, but the one that calls.
fn target_all(slot: usize) -> Result {
    // SAFETY: The running thread's ids are constant.
    let own = unsafe { (*cpu::current_task()).tgid };
    // The oldest last: that is the first process of all, which never ends. So who ends before it has been
    // told of has done so before the last record of this kind.
    for process in Process::all()?.iter().rev() {
        if process.live_id() != Some(own) {
            // One that has ended since needs no tracing.
            let _ = target(slot, process);
        }
    }
    Ok(())
}

/// Tells a running session of the threads of its targets that are there still, if it wants to know.
pub(crate) fn tell_alive(slot: usize) {
    let registry = REGISTRY.lock();
    let sideband = registry.running[slot]
        .as_ref()
        .is_some_and(|entry| entry.config.flags & session_flag::SIDEBAND != 0);
    if sideband {
        // SAFETY: `each_thread_of_all` gives live tasks.
        process::each_thread_of_all(|thread| unsafe { tasks::tell_alive(slot, thread) });
    }
}

/// Begins to record for a session with these targets, or with all processes but the calling one. Gives its
/// slot, to be given back by [`leave`]. On error nothing is left behind.
///
/// # Safety
///
/// `wake` must stay alive until [`leave`] has returned.
///
/// # Errors
///
/// `EBUSY` if all slots are taken, `ESRCH` if processes are given and all have ended, `ENOMEM`, and those of
/// the probes.
pub(crate) unsafe fn join(
    config: &uapi::Config,
    rings: &Arc<Rings>,
    wake: &Wake,
    processes: &[Process],
) -> Result<usize> {
    let mut registry = REGISTRY.lock();
    let slot = registry
        .running
        .iter()
        .position(Option::is_none)
        .ok_or(EBUSY)?;
    let missed_before = registry.arm()?;
    if config.flags & session_flag::LATENCY != 0 {
        registry.arm_latency()?;
    }
    latency::begin(slot, config.flags & session_flag::LATENCY != 0);
    let all = config.flags & session_flag::ALL != 0;
    targets::begin(slot, config.flags & session_flag::FOLLOW != 0, all);
    // SAFETY: `end` withdraws both and waits. The rings live at least that long by the entry's reference,
    // `wake` by this function's contract.
    unsafe {
        recorder::publish(slot, &**rings);
        wake::publish(slot, wake);
    }
    let mut first = None;
    for process in processes {
        if let Ok(id) = target(slot, process) {
            first = first.or(Some(id));
        }
    }
    registry.running[slot] = Some(Entry {
        rings: rings.clone(),
        config: *config,
        owner: Owner::current(),
        named: processes.len() as u32,
        first: first.unwrap_or(0),
        started_ns: now(),
        missed_before,
    });
    let result = if all {
        target_all(slot)
    } else if first.is_none() && !processes.is_empty() {
        Err(ESRCH)
    } else {
        Ok(())
    };
    if let Err(error) = result {
        registry.end(slot);
        return Err(error);
    }
    Ok(slot)
}

/// Ends the recording for a session, and tells how many faults the probe missed meanwhile. When this
/// returns, the fault path no longer knows of the session.
pub(crate) fn leave(slot: usize) -> u64 {
    let mut registry = REGISTRY.lock();
    let missed = registry.missed_by(slot);
    registry.end(slot);
    missed
}

/// Adds a target to a running session.
///
/// # Errors
///
/// `ESRCH` if it has ended.
pub(crate) fn add(slot: usize, process: &Process) -> Result {
    let mut registry = REGISTRY.lock();
    let id = target(slot, process)?;
    if let Some(entry) = &mut registry.running[slot] {
        entry.named = entry.named.saturating_add(1);
        if entry.named == 1 {
            entry.first = id;
        }
    }
    Ok(())
}

/// Removes a target from a running session; false if it was none.
pub(crate) fn remove(slot: usize, process: &Process) -> bool {
    let _registry = REGISTRY.lock();
    process
        .live_id()
        .is_some_and(|id| targets::remove(slot, id))
}

/// Faults missed while a session has been running.
pub(crate) fn missed(slot: usize) -> u64 {
    REGISTRY.lock().missed_by(slot)
}

/// Whether a running session had targets and all have ended.
pub(crate) fn is_over(slot: usize) -> bool {
    let registry = REGISTRY.lock();
    let named = registry.running[slot]
        .as_ref()
        .map_or(0, |entry| entry.named);
    named > 0 && targets::live(slot) == 0
}

/// `CLOCK_MONOTONIC` in nanoseconds.
fn now() -> i64 {
    <kernel::time::Monotonic as kernel::time::ClockSource>::ktime_get()
}

/// What the running session of an index is doing, for an overview.
pub(crate) fn overview(index: usize) -> uapi::SessionInfo {
    let registry = REGISTRY.lock();
    let mut info = uapi::SessionInfo {
        index: index as u32,
        ..Default::default()
    };
    let mut rings = None;
    if let Some(Some(entry)) = registry.running.get(index) {
        info.present = 1;
        info.mode = entry.config.mode;
        info.flags = entry.config.flags;
        info.owner_pid = entry.owner.pid;
        info.owner_comm = entry.owner.comm;
        info.live_targets = targets::live(index);
        info.named_targets = entry.named;
        info.first_target = entry.first;
        info.ring_bytes = entry.config.ring_bytes;
        info.missed = registry.missed_by(index);
        // CAST: the clock never goes back.
        info.running_ns = (now() - entry.started_ns) as u64;
        rings = Some(entry.rings.clone());
    }
    // Without the lock: what is pending is counted by walking through the rings.
    drop(registry);
    if let Some(rings) = rings {
        let total = rings.total();
        info.hits = total.hits;
        info.recorded = total.recorded;
        info.dropped = total.dropped;
        info.overwritten = total.overwritten;
        info.missed_returns = rings.missed_returns();
    }
    info
}
