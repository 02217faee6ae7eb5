// SPDX-License-Identifier: GPL-2.0-only

//! The registry: which sessions are running, and the probes, armed while any is.
//!
//! Everything here runs under one lock, which the fault path does not take. Nothing touches user memory
//! while it is held, but for a page of the caller's own stack ([`process::fault_once`]).

use core::{cell::Cell, ffi::c_int, ptr::null};
use kernel::{bindings, prelude::*, sync::Arc};

use super::{
    arch,
    clock::{self, Quick},
    compat, ftrace,
    latency::{self, Latency},
    probe::Kprobe,
    process::{self, Executable, Process},
    recorder,
    rights::{self, User},
    rings::Rings,
    rules::{self, Facts, Rules},
    targets::{self, Hook, Table},
    tasks::{self, Hooks, RightsHook, RuleHooks},
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
    /// When the probe was last asked whether it hears, and when it did.
    asked_ns: u64,
    heard_ns: u64,
}

/// The probe is not asked more often whether it hears, but at the beginning and the end of a session.
const ASK_AGAIN_NS: u64 = 100_000_000;

/// Ticks for which a start waits at most for the lock of the caller's mappings, which who holds it may be kept
/// from giving back on a machine under load.
const PATIENCE: u32 = 5000;

/// The probes. Fields are dropped in this order: no fault looks for a hook or targets that are gone.
struct Armed {
    /// While a session asks for it, each.
    kprobe: Option<Kprobe>,
    ftrace: Option<ftrace::Hook>,
    timed_ftrace: Option<ftrace::Hook>,
    latency: Option<Latency>,
    /// Whether the kprobe's handler hooks returns.
    kprobe_is_timed: bool,
    rules: Option<RuleHooks>,
    rights: Option<RightsHook>,
    _clock: Option<Quick>,
    _tasks: Hooks,
    _targets: Table,
}

/// A running session, as the overview shows it.
struct Entry {
    rings: Arc<Rings>,
    rules: Option<KBox<Rules>>,
    config: uapi::Config,
    owner: Owner,
    /// Who may trace processes of his own alone.
    user: Option<User>,
    named: u32,
    first: i32,
    started_ns: i64,
    /// The probe's count when the session started.
    missed_before: u64,
    deaf: Deaf,
    /// Whether all that it was started with are targets. Before that it is not shown: who sees it may rely on that.
    begun: bool,
}

/// Whether the probe was found not to hear while a session was running.
#[derive(Clone, Copy, Default)]
pub(crate) struct Deaf {
    /// How often.
    pub(crate) times: u64,
    /// When it was found to hear before that, by `CLOCK_MONOTONIC`.
    pub(crate) heard_ns: u64,
}

/// The process that started a session.
#[derive(Clone, Copy)]
struct Owner {
    pid: i32,
    /// Its real user's id in the initial user namespace.
    uid: u32,
    comm: [u8; 16],
}

/// Sessions that one user may have, but for those who administer the machine.
const SHARE: usize = uapi::MAX_SESSIONS / 2;

impl Owner {
    fn current() -> Self {
        let task = arch::current_task();
        let mut comm = [0; 16];
        // SAFETY: The running thread's task; its name may change meanwhile but stays 16 bytes.
        let pid = unsafe {
            for (to, from) in comm.iter_mut().zip((*task).comm) {
                *to = from;
            }
            (*task).tgid
        };
        let uid = process::own_user();
        Self { pid, uid, comm }
    }
}

/// `EDQUOT`: the user has as many sessions as one may have.
pub(crate) fn over_share() -> Error {
    Error::from_errno(-(bindings::EDQUOT as c_int))
}

impl Registry {
    const fn new() -> Self {
        Self {
            running: [const { None }; uapi::MAX_SESSIONS],
            armed: None,
            asked_ns: 0,
            heard_ns: 0,
        }
    }

    /// A slot for a session of this owner.
    fn free_slot(&self, owner: &Owner) -> Result<usize> {
        let running = self.running.iter().flatten();
        let own = running.filter(|entry| entry.owner.uid == owner.uid).count();
        if own >= SHARE && !process::administers_the_machine() {
            return Err(over_share());
        }
        let free = self.running.iter().position(Option::is_none);
        free.ok_or(EBUSY)
    }

    /// Arms what a session with these flags and rules, and of a user of few rights, needs and is not armed yet, and tells how
    /// many faults the kprobe has missed.
    fn arm(&mut self, flags: u32, rules: Option<&Rules>, user: Option<User>) -> Result<u64> {
        let result = self.arm_each(flags, rules, user);
        if result.is_err() {
            self.disarm_unwanted(None);
        }
        result.map(|()| self.missed())
    }

    fn arm_each(&mut self, flags: u32, rules: Option<&Rules>, user: Option<User>) -> Result {
        if self.armed.is_none() {
            let table = Table::new()?;
            let tasks = Hooks::new()?;
            self.armed = Some(Armed {
                kprobe: None,
                ftrace: None,
                timed_ftrace: None,
                latency: None,
                kprobe_is_timed: false,
                rules: None,
                rights: None,
                _clock: clock::quick(),
                _tasks: tasks,
                _targets: table,
            });
        }
        let Some(armed) = &mut self.armed else {
            return Err(EINVAL);
        };
        if let Some(rules) = rules {
            let hooks = match armed.rules.take() {
                Some(hooks) => hooks,
                None => RuleHooks::new()?,
            };
            let hears = hooks.hear_of_cgroups();
            armed.rules = Some(hooks);
            if rules.ask_for_cgroups() && !hears {
                return Err(ENOENT);
            }
        }
        if user.is_some() && armed.rights.is_none() {
            armed.rights = Some(RightsHook::new()?);
        }
        let hook = Hook::of(flags);
        if hook == Hook::TimedFtrace && !arch::RETURNS_AFTER_FTRACE {
            return Err(compat::unsupported());
        }
        let timed = flags & session_flag::LATENCY != 0;
        if timed && armed.latency.is_none() {
            armed.latency = Some(Latency::new()?);
        }
        match hook {
            Hook::Kprobe => {
                let kprobe = match armed.kprobe.take() {
                    Some(kprobe) => kprobe,
                    None => Kprobe::at_entry(c"handle_mm_fault", recorder::on_fault)?,
                };
                if timed {
                    kprobe.set_handler(recorder::on_timed_fault);
                    armed.kprobe_is_timed = true;
                }
                armed.kprobe = Some(kprobe);
            }
            Hook::Ftrace => hook_by_ftrace(&mut armed.ftrace, recorder::on_entry)?,
            Hook::TimedFtrace => {
                hook_by_ftrace(&mut armed.timed_ftrace, recorder::on_timed_entry)?;
            }
        }
        Ok(())
    }

    /// Takes away what no running session asks for, but for one that is about to end.
    fn disarm_unwanted(&mut self, ending: Option<usize>) {
        let Some(armed) = &mut self.armed else {
            return;
        };
        let left = || {
            let running = self.running.iter().enumerate();
            running.filter_map(|(slot, entry)| {
                (Some(slot) != ending).then_some(entry.as_ref()).flatten()
            })
        };
        let any_has = |flag| left().any(|entry| entry.config.flags & flag != 0);
        let any_by = |hook| left().any(|entry| Hook::of(entry.config.flags) == hook);
        if !left().any(|entry| entry.rules.is_some()) {
            armed.rules = None;
        }
        if !left().any(|entry| entry.user.is_some()) {
            armed.rights = None;
        }
        let timed_kprobe = session_flag::LATENCY;
        let both = session_flag::LATENCY | session_flag::FTRACE;
        if !left().any(|entry| entry.config.flags & both == timed_kprobe) {
            if let (Some(kprobe), true) = (&armed.kprobe, armed.kprobe_is_timed) {
                kprobe.set_handler(recorder::on_fault);
            }
            armed.kprobe_is_timed = false;
        }
        if !any_by(Hook::Kprobe) {
            armed.kprobe = None;
        }
        if !any_by(Hook::Ftrace) {
            armed.ftrace = None;
        }
        if !any_by(Hook::TimedFtrace) {
            armed.timed_ftrace = None;
        }
        // Behind those whose handlers place it.
        if !any_has(session_flag::LATENCY) {
            armed.latency = None;
        }
        if left().next().is_none() {
            // Nobody records: the hooks of tasks go, too, and the table with them.
            self.armed = None;
        }
    }

    /// Asks the hooks whether they hear, and counts for their sessions where they do not. Returns it of the hook of a
    /// session with these flags. May take so many ticks.
    ///
    /// # Errors
    ///
    /// Those of [`process::fault_once`].
    fn hears(&mut self, flags: u32, patience: u32) -> Result<bool> {
        let Some(armed) = &self.armed else {
            return Ok(false);
        };
        let kprobe = match &armed.kprobe {
            Some(kprobe) => recorder::hears(kprobe, armed.kprobe_is_timed, || {
                process::fault_once(patience)
            })?,
            None => true,
        };
        let is_called =
            |hook: &Option<ftrace::Hook>| hook.as_ref().is_none_or(ftrace::Hook::is_called);
        let (ftrace, timed_ftrace) = (is_called(&armed.ftrace), is_called(&armed.timed_ftrace));
        let hears = |flags: u32| match Hook::of(flags) {
            Hook::Kprobe => kprobe,
            Hook::Ftrace => ftrace,
            Hook::TimedFtrace => timed_ftrace,
        };
        // CAST: the clock is not negative.
        self.asked_ns = now() as u64;
        if kprobe && ftrace && timed_ftrace {
            self.heard_ns = self.asked_ns;
        } else {
            let running = self.running.iter_mut().flatten();
            for entry in running.filter(|entry| !hears(entry.config.flags)) {
                if entry.deaf.times == 0 {
                    entry.deaf.heard_ns = self.heard_ns;
                }
                entry.deaf.times = entry.deaf.times.wrapping_add(1);
            }
        }
        Ok(hears(flags))
    }

    /// As [`Registry::hears`], but not more often than need be; and looks for targets that have ended unseen.
    fn look_after(&mut self, slot: usize) {
        // CAST: the clock is not negative.
        let due = (now() as u64).wrapping_sub(self.asked_ns) >= ASK_AGAIN_NS;
        if due && self.running[slot].is_some() {
            // Where that cannot be found out now, the next one asks.
            let _ = self.hears(0, 0);
            if targets::has_unseen_ends(slot) {
                targets::end_those(slot, process::has_ended);
            }
        }
    }

    fn missed(&self) -> u64 {
        let kprobe = self.armed.as_ref().and_then(|armed| armed.kprobe.as_ref());
        kprobe.map_or(0, Kprobe::missed)
    }

    /// Faults missed while the session has been running. The ftrace hook misses none.
    fn missed_by(&self, slot: usize) -> u64 {
        match &self.running[slot] {
            Some(entry) if entry.config.flags & session_flag::FTRACE == 0 => {
                self.missed().wrapping_sub(entry.missed_before)
            }
            _ => 0,
        }
    }

    fn deaf(&self, slot: usize) -> Deaf {
        self.running[slot]
            .as_ref()
            .map_or(Deaf::default(), |entry| entry.deaf)
    }

    /// Takes a slot back. When this returns, the fault path no longer knows of its session.
    fn end(&mut self, slot: usize) {
        recorder::withdraw(slot);
        wake::withdraw(slot);
        rules::withdraw(slot);
        targets::end(slot);
        targets::forget_waiting(slot);
        latency::end(slot);
        // A hook that goes waits for whoever runs it.
        self.disarm_unwanted(Some(slot));
        if self.armed.is_some() {
            // SAFETY: The call may sleep, and so may all callers.
            unsafe { bindings::synchronize_rcu_expedited() };
            targets::forget(slot);
        }
        // Behind the last that asks of its targets.
        rights::end(slot);
        if let Some(entry) = self.running[slot].take() {
            entry.rings.emit_losses();
        }
    }
}

/// Has a handler called at the entry of each fault, if it is not yet. The caller can ask for the kprobe where that fails.
fn hook_by_ftrace(hook: &mut Option<ftrace::Hook>, handler: ftrace::Handler) -> Result {
    if hook.is_none() {
        let new = ftrace::Hook::at_fault(handler);
        *hook = Some(new.map_err(|error| {
            if error == ENOMEM {
                error
            } else {
                compat::unsupported()
            }
        })?);
    }
    Ok(())
}

/// A process that is named as a target.
pub(crate) struct Named {
    /// It.
    pub(crate) process: Process,
    /// Whether it becomes a target by executing a program alone.
    pub(crate) on_exec: bool,
}

/// Makes a named process a target of a running session, or lets it wait to become one. Gives its id in the
/// initial namespace.
///
/// # Errors
///
/// `ESRCH` if it has ended; `ENOSPC` if too many wait; `EACCES` if it is another's, in a session of one's own processes.
fn target_named(slot: usize, named: &Named) -> Result<i32> {
    if !named.on_exec {
        return target(slot, &named.process);
    }
    let id = named.process.live_id().ok_or(ESRCH)?;
    targets::add_on_exec(slot, id)?;
    // As in `target`.
    if named.process.live_id().is_none() {
        targets::remove(slot, id);
        return Err(ESRCH);
    }
    Ok(id)
}

/// Makes a process a target of a running session. Gives its id in the initial namespace.
///
/// # Errors
///
/// `ESRCH` if it has ended; `EACCES` if it is another's, in a session of one's own processes.
fn target(slot: usize, process: &Process) -> Result<i32> {
    let id = process.live_id().ok_or(ESRCH)?;
    // Before the process is in the table: nobody saw its end.
    let leader_has_ended = Cell::new(false);
    process.ended_leader(|_| leader_has_ended.set(true));
    targets::add(slot, id);
    // It may have ended before it was in the table, so that the hook did not find it there.
    if process.live_id().is_none() {
        targets::remove(slot, id);
        return Err(ESRCH);
    }
    // Or have become another's, likewise.
    // SAFETY: `with_leader` gives a task that it has found under RCU, and calls under it.
    let foreign = process.with_leader(|leader| unsafe { rights::foreign_to(1 << slot, leader) });
    if foreign.is_some_and(|foreign| foreign != 0) {
        targets::remove(slot, id);
        return Err(EACCES);
    }
    let executable = process.executable();
    let file = executable.as_ref().map_or(null(), Executable::as_ptr);
    if leader_has_ended.get() {
        // SAFETY: `ended_leader` gives a live task; `executable` keeps the file open.
        process.ended_leader(|leader| unsafe { tasks::emit_ended_leader(slot, leader, file) });
    }
    // SAFETY: `with_leader` gives a task that it has found under RCU, and calls under it; `executable` keeps the file
    // open.
    process.with_leader(|leader| unsafe { tasks::emit_threads(slot, leader, file) });
    Ok(id)
}

/// Whether a process is to be a target of a session that traces all, or those that its rules name.
fn is_wanted(slot: usize, process: &Process) -> bool {
    let executable = process.executable();
    let file = executable.as_ref().map_or(null(), Executable::as_ptr);
    let wanted = process.with_leader(|leader| {
        // SAFETY: `with_leader` gives a task that it has found under RCU, and calls under it; `executable` keeps the file
        // open.
        unsafe { rules::want(slot, &Facts::of(leader, file)) }
    });
    // A session without rules wants all.
    wanted.is_some_and(|wanted| wanted != Some(false))
}

/// Makes all processes targets of a running session that the rules name, if it has some, but the one that calls.
fn target_all(slot: usize) -> Result {
    // SAFETY: The running thread's ids are constant.
    let own = unsafe { (*arch::current_task()).tgid };
    // The oldest last: that is the first process of all, which never ends. So who ends before it has been
    // reported has done so before the last record of this kind.
    for process in Process::all()?.iter().rev() {
        let _registry = REGISTRY.lock();
        if process.live_id() != Some(own) && is_wanted(slot, process) {
            // One that has ended since needs no tracing.
            let _ = target(slot, process);
            // It may have become another meanwhile, and was no target then.
            if !is_wanted(slot, process) {
                remove_target(slot, process);
            }
        }
        if process::is_being_killed() {
            return Err(EINTR);
        }
    }
    Ok(())
}

/// Tells a running session of the threads of its targets that are there still, if it wants to know.
pub(crate) fn emit_alive(slot: usize) {
    let registry = REGISTRY.lock();
    let sideband = registry.running[slot]
        .as_ref()
        .is_some_and(|entry| entry.config.flags & session_flag::SIDEBAND != 0);
    if sideband {
        // SAFETY: `each_thread_of_all` gives live tasks.
        process::each_thread_of_all(|thread| unsafe { tasks::emit_alive(slot, thread) });
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
/// `EBUSY` if all slots are taken, [`over_share`], `ESRCH` if processes are given and all have ended, `EIO` if the probe does
/// not hear, `ENOSPC` if too many processes wait for an exec, `EINTR` if the caller is being killed, `ENOMEM`, and those of the probes.
pub(crate) unsafe fn join(
    config: &uapi::Config,
    user: Option<User>,
    rings: &Arc<Rings>,
    wake: &Wake,
    processes: &[Named],
    rules: Option<KBox<Rules>>,
) -> Result<usize> {
    let mut registry = REGISTRY.lock();
    let owner = Owner::current();
    let slot = registry.free_slot(&owner)?;
    let missed_before = registry.arm(config.flags, rules.as_deref(), user)?;
    let heard = registry.hears(config.flags, PATIENCE);
    if !matches!(heard, Ok(true)) {
        registry.disarm_unwanted(None);
        return Err(heard.err().unwrap_or(EIO));
    }
    latency::begin(slot, config.flags & session_flag::LATENCY != 0);
    rights::begin(slot, user);
    let all = config.flags & session_flag::ALL != 0;
    targets::begin(
        slot,
        config.flags & session_flag::FOLLOW != 0,
        all && rules.is_none(),
        Hook::of(config.flags),
    );
    // SAFETY: `end` withdraws both and waits. The rings live at least that long by the entry's reference,
    // `wake` by this function's contract.
    unsafe {
        recorder::publish(slot, &**rings);
        wake::publish(slot, wake);
        if let Some(rules) = &rules {
            rules::publish(slot, &**rules);
        }
    }
    let all = all || rules.is_some();
    registry.running[slot] = Some(Entry {
        rings: rings.clone(),
        rules,
        config: *config,
        owner,
        user,
        named: processes.len() as u32,
        first: 0,
        started_ns: now(),
        missed_before,
        deaf: Deaf::default(),
        begun: false,
    });
    // The slot is taken. Others need not wait until all processes are targets, which are as many as the caller names.
    drop(registry);
    let result = if all {
        target_all(slot)
    } else {
        target_each(slot, processes)
    };
    let mut registry = REGISTRY.lock();
    if let Err(error) = result {
        registry.end(slot);
        return Err(error);
    }
    if let Some(entry) = &mut registry.running[slot] {
        entry.begun = true;
    }
    Ok(slot)
}

/// Makes the processes that were named targets of a session that begins.
///
/// # Errors
///
/// `ESRCH` if all have ended, `EINTR` if the caller is being killed, and those of [`target_named`].
fn target_each(slot: usize, processes: &[Named]) -> Result {
    let mut first = None;
    for process in processes {
        let mut registry = REGISTRY.lock();
        match target_named(slot, process) {
            Ok(id) if first.is_none() => {
                first = Some(id);
                if let Some(entry) = &mut registry.running[slot] {
                    entry.first = id;
                }
            }
            Ok(_) => {}
            // One that is another's by now is not traced, either.
            Err(error) if error == ESRCH || error == EACCES => {}
            Err(error) => return Err(error),
        }
        if process::is_being_killed() {
            return Err(EINTR);
        }
    }
    if first.is_none() && !processes.is_empty() {
        return Err(ESRCH);
    }
    Ok(())
}

/// Ends the recording for a session, and tells how many faults the probe missed meanwhile, and whether it was
/// found not to hear. When this returns, the fault path no longer knows of the session.
pub(crate) fn leave(slot: usize) -> (u64, Deaf) {
    let mut registry = REGISTRY.lock();
    // A process that ends has no memory left to find out.
    let _ = registry.hears(0, 0);
    let result = (registry.missed_by(slot), registry.deaf(slot));
    registry.end(slot);
    result
}

/// Adds a target to a running session.
///
/// # Errors
///
/// `ESRCH` if it has ended.
pub(crate) fn add(slot: usize, named: &Named) -> Result {
    let mut registry = REGISTRY.lock();
    let id = target_named(slot, named)?;
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
    remove_target(slot, process)
}

fn remove_target(slot: usize, process: &Process) -> bool {
    process
        .live_id()
        .is_some_and(|id| targets::remove(slot, id))
}

/// Faults missed while a session has been running, and whether the probe was found not to hear.
pub(crate) fn missed(slot: usize) -> (u64, Deaf) {
    let mut registry = REGISTRY.lock();
    registry.look_after(slot);
    (registry.missed_by(slot), registry.deaf(slot))
}

/// Whether a running session had targets and all have ended.
pub(crate) fn is_over(slot: usize) -> bool {
    let mut registry = REGISTRY.lock();
    registry.look_after(slot);
    let named = registry.running[slot]
        .as_ref()
        .map_or(0, |entry| entry.named);
    named > 0 && targets::live(slot) == 0
}

/// `CLOCK_MONOTONIC` in nanoseconds.
fn now() -> i64 {
    <kernel::time::Monotonic as kernel::time::ClockSource>::ktime_get()
}

/// What the running session of an index is doing, for an overview: nothing, if it is another user's, unless the running thread
/// administers the machine. Ids are those of its pid namespace, 0 for processes that are not in it.
pub(crate) fn overview(index: usize) -> uapi::SessionInfo {
    let reader = process::own_user();
    let registry = REGISTRY.lock();
    let mut info = uapi::SessionInfo {
        index: index as u32,
        ..Default::default()
    };
    let mut rings = None;
    let entry = registry.running.get(index).and_then(Option::as_ref);
    let is_shown = |entry: &&Entry| {
        entry.begun && (entry.owner.uid == reader || process::administers_the_machine())
    };
    if let Some(entry) = entry.filter(is_shown) {
        info.present = 1;
        info.mode = entry.config.mode;
        info.flags = entry.config.flags;
        info.owner_pid = process::id_seen_here(entry.owner.pid);
        info.owner_comm = entry.owner.comm;
        info.live_targets = targets::live(index);
        info.named_targets = entry.named;
        info.first_target = process::id_seen_here(entry.first);
        info.ring_bytes = entry.config.ring_bytes;
        info.rules = entry.rules.as_ref().map_or(0, |rules| rules.count() as u64);
        info.missed = registry.missed_by(index);
        // CAST: the clock never goes back.
        info.running_ns = (now() - entry.started_ns) as u64;
        rings = Some(entry.rings.clone());
    }
    // Without the lock: what is pending is counted by walking through the rings.
    drop(registry);
    if let Some(rings) = rings {
        // Nobody sees the answer to a process that is being killed.
        let total = rings.total(|| !process::is_being_killed());
        info.hits = total.hits;
        info.recorded = total.recorded;
        info.dropped = total.dropped;
        info.overwritten = total.overwritten;
        info.passed_over = total.passed_over;
        info.missed_returns = rings.missed_returns();
    }
    info
}
