// SPDX-License-Identifier: GPL-2.0-only

//! Waking the readers of a session from the fault path.
//!
//! A fault handler must not take the locks of a wait queue: it may run where the scheduler's are held.
//! It raises an interrupt on its own CPU (`irq_work`) that does so a moment later.

use core::{
    ptr::null_mut,
    sync::atomic::{AtomicPtr, Ordering},
};
use kernel::{
    bindings,
    prelude::*,
    sync::{static_lock_class, Arc},
    types::Opaque,
};

use super::uapi;

/// The readers of a session, and the interrupt that wakes them.
#[pin_data(PinnedDrop)]
#[repr(C)]
pub(crate) struct Wake {
    /// First, so that the interrupt's pointer to it is one to this structure.
    #[pin]
    work: Opaque<bindings::irq_work>,
    #[pin]
    readers: Opaque<bindings::wait_queue_head>,
}

// SAFETY: An `irq_work` may be queued and a wait queue used from anywhere.
unsafe impl Send for Wake {}
// SAFETY: As above.
unsafe impl Sync for Wake {}

impl Wake {
    /// Makes one without readers.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                work <- Opaque::ffi_init(|slot: *mut bindings::irq_work| {
                    // SAFETY: `slot` is ours to fill in. What `IRQ_WORK_INIT` does: all zero but the
                    // function.
                    unsafe {
                        slot.write(pin_init::zeroed());
                        (*slot).func = Some(on_interrupt);
                    }
                }),
                readers <- Opaque::ffi_init(|slot| {
                    // SAFETY: `slot` is pinned memory for a wait queue; name and class are static.
                    unsafe {
                        bindings::__init_waitqueue_head(
                            slot,
                            c"fault_tracer".as_ptr().cast(),
                            static_lock_class!().as_ptr(),
                        )
                    }
                }),
            }),
            GFP_KERNEL,
        )
    }

    /// Wakes the readers: where locks may be taken.
    pub(crate) fn now(&self) {
        // SAFETY: The queue is initialised.
        unsafe {
            bindings::__wake_up(self.readers.get(), bindings::TASK_NORMAL, 0, null_mut());
        }
    }

    /// Has a `poll` wait for the next wake-up too.
    ///
    /// # Safety
    ///
    /// `file` and `table` are those of a `poll` on a file that is released before this is dropped.
    pub(crate) unsafe fn wait(&self, file: *mut bindings::file, table: *mut bindings::poll_table) {
        // SAFETY: By the contract. Whoever waits is taken off the queue at the latest when the file is
        // released.
        unsafe { bindings::poll_wait(file, self.readers.get(), table) };
    }
}

#[pinned_drop]
impl PinnedDrop for Wake {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: It is initialised; after this call the interrupt does not use it any more. Nobody can
        // raise it again, for the owner has withdrawn it from `RUNNING` and waited.
        unsafe { bindings::irq_work_sync(self.work.get()) };
    }
}

/// # Safety
///
/// Called by the interrupt of a [`Wake`] that is alive.
unsafe extern "C" fn on_interrupt(work: *mut bindings::irq_work) {
    // SAFETY: `work` is the first field of a `Wake`.
    unsafe { &*work.cast::<Wake>() }.now();
}

/// Whom to wake for the running sessions.
static RUNNING: [AtomicPtr<Wake>; uapi::MAX_SESSIONS] =
    [const { AtomicPtr::new(null_mut()) }; uapi::MAX_SESSIONS];

/// Lets [`raise`] wake the readers of a session.
///
/// # Safety
///
/// `wake` must stay alive until [`withdraw`] was called and an RCU grace period has passed.
pub(crate) unsafe fn publish(session: usize, wake: *const Wake) {
    RUNNING[session].store(wake.cast_mut(), Ordering::Release);
}

/// Undoes [`publish`], for good after an RCU grace period.
pub(crate) fn withdraw(session: usize) {
    RUNNING[session].store(null_mut(), Ordering::Relaxed);
}

/// Wakes the readers of a session a moment later. From the fault path and the hooks; preemption
/// disabled, or within an RCU read-side section.
#[cold]
#[inline(never)]
pub(crate) fn raise(session: usize) {
    if let Some(slot) = RUNNING.get(session) {
        // SAFETY: What is published is alive within an RCU read-side section, see `publish`.
        if let Some(wake) = unsafe { slot.load(Ordering::Acquire).as_ref() } {
            // SAFETY: It is initialised, and alive until it has run: `Wake::drop` waits.
            unsafe { bindings::irq_work_queue(wake.work.get()) };
        }
    }
}
