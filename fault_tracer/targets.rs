// SPDX-License-Identifier: GPL-2.0-only

//! Which sessions trace which process: one load for each fault, however many targets there are.
//!
//! A table indexed by process id holds a mask of sessions. The fault path reads it; the control path
//! and two hooks change it:
//!
//! - at a fork, `tasks.rs` has a child inherit its parent's followers before the child runs;
//! - a kprobe on `do_notify_parent` ends a target: the kernel calls it once all threads of a process
//!   are past their last access to memory and before its id can be used again.
//!
//! Kprobes can be switched off. So the tracepoint of exits counts the targets that have begun to end; where
//! some of them were not seen to have ended, the control path looks for them ([`has_unseen_ends`]).
//!
//! A process may also wait to become a target until it executes a program ([`add_on_exec`]).
//!
//! Lock order: none here; the callers in `session.rs` hold the registry's lock for all but the hooks.

use core::{
    ffi::c_int,
    ptr::null_mut,
    sync::atomic::{AtomicI32, AtomicPtr, AtomicU16, AtomicU32, AtomicU64, Ordering},
};
use kernel::{alloc::flags::__GFP_NOWARN, bindings, prelude::*, sync::rcu};

use super::{
    arch,
    probe::{Kprobe, RawKprobe},
    rules, uapi, wake,
};

/// Process ids that there can be.
const PIDS: usize = 1 << uapi::PID_BITS;

/// A bit for each session.
pub(crate) type Mask = u16;

const _: () = assert!(Mask::BITS as usize == uapi::MAX_SESSIONS);

/// The masks by process id: null, or an array of `PIDS`.
static MASKS: AtomicPtr<AtomicU16> = AtomicPtr::new(null_mut());

/// Sessions whose targets' children become targets.
static FOLLOWING: AtomicU16 = AtomicU16::new(0);

/// Sessions whose faults the kprobe sees, those whose faults the ftrace hook sees, and those for which a second such hook
/// sees their returns, too.
static BY_KPROBE: AtomicU16 = AtomicU16::new(0);
static BY_FTRACE: AtomicU16 = AtomicU16::new(0);
static BY_TIMED_FTRACE: AtomicU16 = AtomicU16::new(0);

/// What sees a session's faults.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    /// The kprobe.
    Kprobe,
    /// The ftrace hook.
    Ftrace,
    /// The ftrace hook that hooks the returns, too.
    TimedFtrace,
}

impl Hook {
    /// That of a session with these flags.
    pub(crate) fn of(flags: u32) -> Self {
        if flags & uapi::session_flag::FTRACE == 0 {
            Self::Kprobe
        } else if flags & uapi::session_flag::LATENCY == 0 {
            Self::Ftrace
        } else {
            Self::TimedFtrace
        }
    }

    fn sessions(self) -> &'static AtomicU16 {
        match self {
            Self::Kprobe => &BY_KPROBE,
            Self::Ftrace => &BY_FTRACE,
            Self::TimedFtrace => &BY_TIMED_FTRACE,
        }
    }
}

/// Sessions whose faults the kprobe records.
#[inline(always)]
pub(crate) fn by_kprobe() -> Mask {
    BY_KPROBE.load(Ordering::Relaxed)
}

/// Sessions whose faults the ftrace hook records.
#[inline(always)]
pub(crate) fn by_ftrace() -> Mask {
    BY_FTRACE.load(Ordering::Relaxed)
}

/// Sessions whose faults and their returns ftrace hooks record.
#[inline(always)]
pub(crate) fn by_timed_ftrace() -> Mask {
    BY_TIMED_FTRACE.load(Ordering::Relaxed)
}

/// Sessions whose targets are all processes.
static ALL: AtomicU16 = AtomicU16::new(0);

/// For each session, targets that have not ended, and processes that wait to become one.
static LIVE: [AtomicI32; uapi::MAX_SESSIONS] = [const { AtomicI32::new(0) }; uapi::MAX_SESSIONS];

/// For each session, targets whose last thread has begun to end, less those that have ended.
static ENDING: [AtomicI32; uapi::MAX_SESSIONS] = [const { AtomicI32::new(0) }; uapi::MAX_SESSIONS];

/// Processes that become targets when they execute a program: each a number of [`waiting`], or 0.
static WAITING: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];

/// How many there are: nearly always none, and then nobody need look.
static WAITERS: AtomicU32 = AtomicU32::new(0);

/// The mask cell of a process; `None` while there is no table.
#[inline(always)]
fn cell<'a>(pid: bindings::pid_t) -> Option<&'a AtomicU16> {
    let masks = MASKS.load(Ordering::Relaxed);
    if masks.is_null() {
        return None;
    }
    // SAFETY: The index is below `PIDS`. `Table::drop` frees the array only after it has withdrawn the
    // pointer, detached the hooks and waited for all RCU readers; everybody else who comes here holds
    // the registry's lock, under which alone a `Table` is dropped.
    Some(unsafe { &*masks.add(pid as usize & (PIDS - 1)) })
}

/// The sessions that trace a process.
///
/// To be called with preemption disabled, or within an RCU read-side section.
#[inline(always)]
pub(crate) fn sessions_of(pid: bindings::pid_t) -> Mask {
    match cell(pid) {
        Some(mask) => mask.load(Ordering::Relaxed),
        None => 0,
    }
}

/// As [`sessions_of`], on the fault path.
///
/// # Safety
///
/// To be called with preemption disabled and while there is a [`Table`]; `pid` is the id of a process.
#[inline(always)]
pub(crate) unsafe fn sessions_of_a_fault(pid: bindings::pid_t) -> Mask {
    // SAFETY: There is a table, and ids are below `PIDS`: `PID_MAX_LIMIT` of `include/linux/threads.h`.
    // CAST: they are not negative.
    unsafe { (*MASKS.load(Ordering::Relaxed).add(pid as u32 as usize)).load(Ordering::Relaxed) }
}

/// The sessions of a mask.
pub(crate) fn each(mask: Mask) -> impl Iterator<Item = usize> {
    (0..uapi::MAX_SESSIONS).filter(move |&session| mask & (1 << session) != 0)
}

/// Makes a process a target of a session. Returns false if it was one already.
pub(crate) fn add(session: usize, pid: bindings::pid_t) -> bool {
    let Some(cell) = cell(pid) else { return false };
    // Counted first, so that the hook, which may end the process at once, never finds the count at 0.
    LIVE[session].fetch_add(1, Ordering::Relaxed);
    let added = cell.fetch_or(1 << session, Ordering::SeqCst) & (1 << session) == 0;
    if !added {
        LIVE[session].fetch_sub(1, Ordering::Relaxed);
    }
    added
}

/// Makes a process no longer a target. Returns false if it was none.
pub(crate) fn remove(session: usize, pid: bindings::pid_t) -> bool {
    let Some(cell) = cell(pid) else { return false };
    let removed = cell.fetch_and(!(1 << session), Ordering::SeqCst) & (1 << session) != 0;
    let waited = take_waiting(|of, waiter| of == session && waiter == pid) != 0;
    if removed {
        LIVE[session].fetch_sub(1, Ordering::Relaxed);
    }
    if waited {
        LIVE[session].fetch_sub(1, Ordering::Relaxed);
    }
    removed || waited
}

/// A target's last thread has begun to end.
pub(crate) fn begins_to_end(pid: bindings::pid_t) {
    let _guard = rcu::read_lock();
    let mut sessions = sessions_of(pid);
    if WAITERS.load(Ordering::Relaxed) != 0 {
        for session in 0..uapi::MAX_SESSIONS {
            let number = waiting(session, pid);
            if WAITING
                .iter()
                .any(|entry| entry.load(Ordering::Relaxed) == number)
            {
                sessions |= 1 << session;
            }
        }
    }
    for session in each(sessions) {
        ENDING[session].fetch_add(1, Ordering::Relaxed);
    }
}

/// One of those that [`begins_to_end`] has counted has ended. It was not counted if it became a target later.
fn has_ended(session: usize) {
    let less = |ending: i32| (ending > 0).then(|| ending.wrapping_sub(1));
    let _ = ENDING[session].fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
}

/// Whether targets of a session have begun to end, and were not seen to have ended: just now, or since the
/// hook was switched off.
pub(crate) fn has_unseen_ends(session: usize) -> bool {
    ENDING[session].load(Ordering::Relaxed) > 0
}

/// Ends those targets of a session of which a function says that they have ended.
///
/// The caller holds the registry's lock.
pub(crate) fn end_those(session: usize, is_gone: impl Fn(bindings::pid_t) -> bool) {
    for pid in 0..PIDS {
        // CAST: below 2^22.
        let pid = pid as bindings::pid_t;
        if sessions_of(pid) & (1 << session) != 0 && is_gone(pid) && remove(session, pid) {
            has_ended(session);
        }
    }
    while take_waiting(|of, waiter| of == session && is_gone(waiter)) != 0 {
        has_ended(session);
        LIVE[session].fetch_sub(1, Ordering::Relaxed);
    }
}

/// The number in [`WAITING`] of a process that waits for a session.
fn waiting(session: usize, pid: bindings::pid_t) -> u64 {
    // CAST: process ids are positive.
    1 << 63 | (session as u64) << 32 | u64::from(pid as u32)
}

/// Takes those out of [`WAITING`] that a function wants, of each session at most one. Gives their sessions.
fn take_waiting(wanted: impl Fn(usize, bindings::pid_t) -> bool) -> Mask {
    let mut sessions = 0;
    if WAITERS.load(Ordering::SeqCst) == 0 {
        return sessions;
    }
    for entry in &WAITING {
        let number = entry.load(Ordering::SeqCst);
        // CAST: as `waiting` has put them together.
        let (session, pid) = ((number >> 32) as usize & 0xf, number as bindings::pid_t);
        if number != 0
            && sessions & (1 << session) == 0
            && wanted(session, pid)
            && entry
                .compare_exchange(number, 0, Ordering::SeqCst, Ordering::Relaxed)
                .is_ok()
        {
            WAITERS.fetch_sub(1, Ordering::SeqCst);
            sessions |= 1 << session;
        }
    }
    sessions
}

/// Makes a process a target of a session from the moment on when it executes a program.
///
/// # Errors
///
/// `ENOSPC` if as many wait already as can.
pub(crate) fn add_on_exec(session: usize, pid: bindings::pid_t) -> Result {
    if sessions_of(pid) & (1 << session) != 0 {
        return Ok(());
    }
    let number = waiting(session, pid);
    if WAITING
        .iter()
        .any(|entry| entry.load(Ordering::Relaxed) == number)
    {
        return Ok(());
    }
    // Counted first, as in `add`.
    LIVE[session].fetch_add(1, Ordering::Relaxed);
    WAITERS.fetch_add(1, Ordering::SeqCst);
    let free = WAITING.iter().any(|entry| {
        entry
            .compare_exchange(0, number, Ordering::SeqCst, Ordering::Relaxed)
            .is_ok()
    });
    if free {
        return Ok(());
    }
    WAITERS.fetch_sub(1, Ordering::SeqCst);
    LIVE[session].fetch_sub(1, Ordering::Relaxed);
    Err(ENOSPC)
}

/// A process has executed a program. Gives the sessions that it is a target of from now on.
pub(crate) fn executed(pid: bindings::pid_t) -> Mask {
    // A session that ends waits for this before it forgets its targets.
    let _guard = rcu::read_lock();
    let sessions = take_waiting(|_, waiter| waiter == pid);
    for session in each(sessions) {
        add(session, pid);
        // As one that waited, it was counted already.
        LIVE[session].fetch_sub(1, Ordering::Relaxed);
    }
    sessions
}

/// Targets of a session that have not ended.
pub(crate) fn live(session: usize) -> u32 {
    LIVE[session].load(Ordering::Relaxed).max(0) as u32
}

/// Begins to keep targets for a session: none yet. With `all`, every process made from now on is one.
pub(crate) fn begin(session: usize, follow: bool, all: bool, hook: Hook) {
    LIVE[session].store(0, Ordering::Relaxed);
    hook.sessions().fetch_or(1 << session, Ordering::Relaxed);
    ENDING[session].store(0, Ordering::Relaxed);
    if follow {
        FOLLOWING.fetch_or(1 << session, Ordering::Relaxed);
    }
    if all {
        // Before the caller looks for the processes that there are: those are on the kernel's list before
        // the hook is called for them, so none is missed.
        ALL.fetch_or(1 << session, Ordering::SeqCst);
    }
}

/// No longer follows the children of a session's targets. Once an RCU grace period has passed, the
/// session gets no new targets, and [`forget`] may be called.
pub(crate) fn end(session: usize) {
    FOLLOWING.fetch_and(!(1 << session), Ordering::Relaxed);
    ALL.fetch_and(!(1 << session), Ordering::Relaxed);
    for hook in [Hook::Kprobe, Hook::Ftrace, Hook::TimedFtrace] {
        hook.sessions()
            .fetch_and(!(1 << session), Ordering::Relaxed);
    }
}

/// No longer waits for a session's processes to execute a program.
pub(crate) fn forget_waiting(session: usize) {
    // Each of them once, as the mask has one bit for all.
    while take_waiting(|of, _| of == session) != 0 {}
}

/// Removes all targets of a session.
pub(crate) fn forget(session: usize) {
    for pid in 0..PIDS {
        // CAST: below 2^22.
        let pid = pid as bindings::pid_t;
        if sessions_of(pid) & (1 << session) != 0 {
            remove(session, pid);
        }
    }
}

/// Makes a new process a target of the sessions that follow its parent, of those that trace all, and of those whose
/// rules hold for it.
///
/// # Safety
///
/// `of` is what the child is: see [`rules::want`].
pub(crate) unsafe fn inherit(parent: bindings::pid_t, child: bindings::pid_t, of: &rules::Facts) {
    let _guard = rcu::read_lock();
    let followed = sessions_of(parent) & FOLLOWING.load(Ordering::Relaxed);
    let by_rules = rules::sessions();
    let wanted = (followed | ALL.load(Ordering::SeqCst)) & !by_rules;
    // Who had the id before was not seen to end. Otherwise it may be that the child was just named as a target.
    for session in each(sessions_of(child)).filter(|&session| has_unseen_ends(session)) {
        if remove(session, child) {
            has_ended(session);
        }
    }
    for session in each(wanted) {
        add(session, child);
    }
    for session in each(by_rules) {
        // SAFETY: By this function's contract.
        if unsafe { rules::want(session, of) } == Some(true) {
            add(session, child);
        }
    }
}

/// Kprobe on `do_notify_parent(struct task_struct *tsk, int sig)`.
///
/// # Safety
///
/// Called by that kprobe alone.
unsafe extern "C" fn on_notify_parent(
    _probe: *mut RawKprobe,
    registers: *mut bindings::pt_regs,
) -> c_int {
    // SAFETY: At the function's entry the first argument is `tsk`, a task that cannot go away: the caller holds
    // `tasklist_lock`, under which the fields read do not change either.
    let (is_leader, threads, pid) = unsafe {
        let task = arch::argument::<0>(registers) as *mut bindings::task_struct;
        (
            (*task).group_leader == task,
            (*(*task).signal).nr_threads,
            (*task).tgid,
        )
    };
    // Other callers tell of a traced thread, or of a leader that ended before its threads.
    if is_leader && threads == 1 {
        let end = |session: usize| {
            has_ended(session);
            if LIVE[session].fetch_sub(1, Ordering::Relaxed) == 1 {
                wake::raise(session);
            }
        };
        if let Some(cell) = cell(pid) {
            each(cell.swap(0, Ordering::SeqCst)).for_each(end);
        }
        each(take_waiting(|_, waiter| waiter == pid)).for_each(end);
    }
    0
}

/// The table and its hook: alive while any session runs.
///
/// Fields are dropped in this order: the hook first.
pub(crate) struct Table {
    _notify: Kprobe,
    _masks: Masks,
}

/// The memory of the table, published in `MASKS`.
struct Masks {
    _memory: VBox<[u16; PIDS]>,
}

impl Masks {
    fn new() -> Result<Self> {
        let mut masks = VBox::<[u16; PIDS]>::zeroed(GFP_KERNEL | __GFP_NOWARN)?;
        // A `u16` and an `AtomicU16` have the same size, alignment and values.
        MASKS.store((&raw mut *masks).cast::<AtomicU16>(), Ordering::Release);
        Ok(Self { _memory: masks })
    }
}

impl Drop for Masks {
    fn drop(&mut self) {
        MASKS.store(null_mut(), Ordering::Relaxed);
        // SAFETY: The call may sleep, which the callers of a drop in this module allow.
        unsafe { bindings::synchronize_rcu_expedited() };
    }
}

impl Table {
    /// Makes an empty table and attaches the hook.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `ENOENT` where this kernel lacks what the hook attaches to.
    pub(crate) fn new() -> Result<Self> {
        let masks = Masks::new()?;
        let notify = Kprobe::at_entry(c"do_notify_parent", on_notify_parent)?;
        Ok(Self {
            _notify: notify,
            _masks: masks,
        })
    }
}
