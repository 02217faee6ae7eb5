// SPDX-License-Identifier: GPL-2.0-only

//! How long faults take: which sessions want to know, and what is kept from a fault's entry to its return.
//!
//! While a session asks for it, the probe at the entry of `handle_mm_fault` has another handler, which hooks
//! the return of those faults that such a session has recorded. Otherwise there is no hook, and the fault
//! path does not know of any of this.

use core::{
    cell::Cell,
    ffi::c_int,
    mem::MaybeUninit,
    ptr::null_mut,
    sync::atomic::{AtomicPtr, AtomicU16, AtomicU64, Ordering},
};
use kernel::{bindings, prelude::*};

use super::{
    probe::{Kprobe, ReturnHook},
    recorder,
    targets::Mask,
    uapi,
};

/// Faults that can be under way at the same time and have their return seen: a fault keeps its instance for
/// as long as it sleeps. The returns of those beyond are missed.
const INSTANCES: c_int = 4096;

/// Sessions that want to know.
static SESSIONS: AtomicU16 = AtomicU16::new(0);

/// Number of the session start that was the last.
static STARTS: AtomicU64 = AtomicU64::new(0);

/// For each session, the number of its start.
static STARTED: [AtomicU64; uapi::MAX_SESSIONS] = [const { AtomicU64::new(0) }; uapi::MAX_SESSIONS];

/// The hook of [`Latency`], while there is one.
static HOOK: AtomicPtr<ReturnHook<Entry>> = AtomicPtr::new(null_mut());

/// What is kept of a fault until it returns.
pub(crate) struct Entry {
    /// [`STARTS`] when it was recorded: a session that has started since is not concerned.
    starts: Cell<u64>,
    /// Sessions that have recorded it and want to know.
    sessions: Cell<Mask>,
    /// For those, the time that they have recorded; nothing for others.
    times: [Cell<MaybeUninit<u64>>; uapi::MAX_SESSIONS],
}

impl Entry {
    /// Nobody has recorded it.
    #[inline(always)]
    pub(crate) fn new() -> Self {
        Self {
            starts: Cell::new(0),
            sessions: Cell::new(0),
            times: [const { Cell::new(MaybeUninit::uninit()) }; uapi::MAX_SESSIONS],
        }
    }

    /// A session has recorded it, with this time.
    #[inline(always)]
    pub(crate) fn set(&self, session: usize, time_ns: u64) {
        let bit = 1 << session & SESSIONS.load(Ordering::Relaxed);
        if let Some(time) = self.times.get(session) {
            time.set(MaybeUninit::new(time_ns));
            self.sessions.set(self.sessions.get() | bit);
        }
    }

    /// Whether a session wants to know of its return.
    #[inline(always)]
    pub(crate) fn is_awaited(&self) -> bool {
        self.sessions.get() != 0
    }

    /// The sessions that want to know of its return, and the time that they have recorded.
    #[inline(always)]
    pub(crate) fn awaited_by(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        let mut rest = self.sessions.get();
        core::iter::from_fn(move || {
            while rest != 0 {
                let session = rest.trailing_zeros() as usize;
                rest &= rest.wrapping_sub(1);
                let (Some(time), Some(started)) = (self.times.get(session), STARTED.get(session))
                else {
                    continue;
                };
                // Another session may have the slot by now.
                if started.load(Ordering::Relaxed) <= self.starts.get() {
                    // SAFETY: `set` has written it before it put the session's bit there.
                    return Some((session, unsafe { time.get().assume_init() }));
                }
            }
            None
        })
    }

    /// Writes what it holds to `to`.
    #[inline(always)]
    fn copy_to(&self, to: &mut MaybeUninit<Self>) {
        // Any bytes are a value of its parts but for the times, of which none is needed.
        let to = to.as_mut_ptr();
        let mut rest = self.sessions.get();
        // SAFETY: The fields of what `to` points to are written through it alone. A copy of a time that was not
        // written is one that was not, either.
        unsafe {
            (&raw mut (*to).starts).write(Cell::new(self.starts.get()));
            (&raw mut (*to).sessions).write(Cell::new(rest));
            while rest != 0 {
                let session = rest.trailing_zeros() as usize;
                rest &= rest.wrapping_sub(1);
                if let Some(time) = self.times.get(session) {
                    (&raw mut (*to).times)
                        .cast::<Cell<MaybeUninit<u64>>>()
                        .add(session)
                        .write(Cell::new(time.get()));
                }
            }
        }
    }
}

/// Takes notice of each record of a fault that is written.
pub(crate) trait OnWritten: Copy {
    /// The time in the record, by the session's clock.
    fn written(self, session: usize, time_ns: u64);
}

impl OnWritten for () {
    #[inline(always)]
    fn written(self, _session: usize, _time_ns: u64) {}
}

impl OnWritten for &Entry {
    #[inline(always)]
    fn written(self, session: usize, time_ns: u64) {
        self.set(session, time_ns);
    }
}

/// Begins to keep times for a session that starts, if it wants them. To be called before the fault path
/// knows of it.
pub(crate) fn begin(session: usize, wanted: bool) {
    STARTED[session].store(
        STARTS.fetch_add(1, Ordering::Relaxed).wrapping_add(1),
        Ordering::Relaxed,
    );
    if wanted {
        SESSIONS.fetch_or(1 << session, Ordering::Relaxed);
    }
}

/// A session has ended.
pub(crate) fn end(session: usize) {
    SESSIONS.fetch_and(!(1 << session), Ordering::Relaxed);
}

/// Hooks the return of a fault that is recorded. False if all instances are in use.
///
/// # Safety
///
/// To be called by the handler of the kprobe on `handle_mm_fault`, with its registers and the running
/// thread's task.
#[inline(always)]
pub(crate) unsafe fn hook_return(
    task: *mut bindings::task_struct,
    registers: *mut bindings::pt_regs,
    entry: &Entry,
) -> bool {
    // A session that has recorded it was published behind this number's last step but for those that do not
    // concern it; and none can end and another start in its place while preemption is disabled.
    entry.starts.set(STARTS.load(Ordering::Relaxed));
    // SAFETY: `Latency::drop` withdraws the pointer and waits for an RCU grace period before the hook
    // goes; with preemption disabled we are in a read-side section.
    let Some(hook) = (unsafe { HOOK.load(Ordering::Acquire).as_ref() }) else {
        return false;
    };
    // SAFETY: By this function's contract.
    match unsafe { hook.place(task, registers) } {
        Some(room) => {
            entry.copy_to(room);
            true
        }
        None => false,
    }
}

/// The return hook, and the handler that places it: alive while a session wants it.
pub(crate) struct Latency {
    _hook: KBox<ReturnHook<Entry>>,
}

impl Latency {
    /// Has the probe on `handle_mm_fault` hook the returns, too.
    ///
    /// # Errors
    ///
    /// Those of [`ReturnHook::new`].
    pub(crate) fn arm(fault: &Kprobe) -> Result<Self> {
        let hook = KBox::new(ReturnHook::new(recorder::on_return, INSTANCES)?, GFP_KERNEL)?;
        HOOK.store((&raw const *hook).cast_mut(), Ordering::Release);
        fault.set_handler(recorder::on_timed_fault);
        Ok(Self { _hook: hook })
    }

    /// Has it do so no longer. Faults that are under way may return at any later time, unseen.
    pub(crate) fn disarm(self, fault: &Kprobe) {
        fault.set_handler(recorder::on_fault);
        drop(self);
    }
}

impl Drop for Latency {
    fn drop(&mut self) {
        HOOK.store(null_mut(), Ordering::Relaxed);
        // SAFETY: The call may sleep, which the callers of a drop in this module allow.
        unsafe { bindings::synchronize_rcu() };
    }
}
