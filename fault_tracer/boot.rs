// SPDX-License-Identifier: GPL-2.0-only

//! The boot session: the one that the module parameter `pid` starts, and that a file may adopt.

use kernel::{prelude::*, sync::Arc};

use super::{
    session::Session,
    uapi::{self, clock, mode, session_flag},
};

/// The boot session, if there is one. Lock order: this, then a session's.
struct Boot {
    session: Option<Arc<Session>>,
    /// Whether a file stands for it.
    adopted: bool,
}

kernel::sync::global_lock! {
    // SAFETY: `init` is called by the module's initializer before anything else.
    unsafe(uninit) static BOOT: Mutex<Boot> = Boot { session: None, adopted: false };
}

/// Prepares it.
///
/// # Safety
///
/// To be called once, before anything else of this file.
pub(crate) unsafe fn init() {
    // SAFETY: By this function's contract.
    unsafe { BOOT.init() };
}

/// Starts it: the process `id`, newest faults kept.
///
/// # Errors
///
/// Those of [`Session::add_target`] and [`Session::start`].
pub(crate) fn start(id: i32, ring_bytes: u64, follow: bool, log: bool) -> Result {
    let session = Session::new(uapi::Config {
        ring_bytes,
        mode: mode::OVERWRITE,
        flags: session_flag::BOOT
            | if follow { session_flag::FOLLOW } else { 0 }
            | if log { session_flag::LOG } else { 0 },
        watermark_bytes: 0,
        clock: clock::MONOTONIC,
        stack: 0,
    })?;
    session.add_target(id, false)?;
    session.start()?;
    BOOT.lock().session = Some(session);
    Ok(())
}

/// Its account at its end.
pub(crate) struct Totals {
    /// Of all CPUs together.
    pub(crate) faults: uapi::CpuCounters,
    /// See [`uapi::Info::missed`].
    pub(crate) missed: u64,
    /// Faults printed to the kernel log; `None` if it was not asked to print.
    pub(crate) printed: Option<u64>,
}

/// Ends it and gives its account; `None` if there is none.
pub(crate) fn end() -> Option<Totals> {
    let session = BOOT.lock().session.take()?;
    session.stop().ok();
    let rings = session.rings()?;
    Some(Totals {
        faults: rings.total(|| true),
        missed: session.info().missed,
        printed: rings.shape().log.then(|| rings.printed()),
    })
}

/// Gives it to a file.
///
/// # Errors
///
/// `ENOENT` if there is none, `EBUSY` if another file has it.
pub(crate) fn adopt() -> Result<Arc<Session>> {
    let mut boot = BOOT.lock();
    let session = boot.session.as_ref().ok_or(ENOENT)?.clone();
    if boot.adopted {
        return Err(EBUSY);
    }
    boot.adopted = true;
    Ok(session)
}

/// Takes it back from a file.
pub(crate) fn give_back() {
    BOOT.lock().adopted = false;
}
