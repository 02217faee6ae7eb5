// SPDX-License-Identifier: GPL-2.0-only

//! The clocks of the records.
//!
//! `CLOCK_MONOTONIC` is computed in place where the processor can, by the kernel's own formula: the results are
//! equal, and may be mixed. All else is a call of the kernel.

use kernel::bindings;

use super::{arch::clock as quick, uapi};

pub(crate) use quick::{is_quick, read_quickly, Quick};

/// The time by a clock of [`uapi::clock`], in nanoseconds.
pub(crate) fn now(clock: u32) -> u64 {
    match clock {
        uapi::clock::MONOTONIC => monotonic(),
        other => other_clock(other),
    }
}

/// A clock's time, and what is to be added to it to get nanoseconds since 1970, with the error of that.
pub(crate) fn time(clock: u32) -> uapi::Time {
    let reading = || {
        let before = now(clock);
        // SAFETY: As in `by_call`.
        let wall_ns = unsafe { bindings::ktime_get_with_offset(bindings::tk_offsets_TK_OFFS_REAL) };
        let after = now(clock);
        let wall_error_ns = after.wrapping_sub(before).div_ceil(2);
        uapi::Time {
            clock,
            reserved: 0,
            time_ns: after,
            // CAST: in hundreds of years.
            wall_offset_ns: wall_ns.wrapping_sub(before.wrapping_add(wall_error_ns) as i64),
            wall_error_ns,
        }
    };
    // The tightest of some: each may be interrupted.
    (0..7).fold(reading(), |best, _| {
        let next = reading();
        if next.wall_error_ns < best.wall_error_ns {
            next
        } else {
            best
        }
    })
}

/// `CLOCK_MONOTONIC` in nanoseconds, as the kernel tells it.
#[cold]
#[inline(never)]
fn by_call() -> u64 {
    // SAFETY: May be called anywhere but in an NMI. Not through `kernel::time`, which would be a second
    // call. CAST: a value in `0..=KTIME_MAX`.
    unsafe { bindings::ktime_get() as u64 }
}

/// As [`now`], for the clocks but `MONOTONIC`.
#[cold]
#[inline(never)]
pub(crate) fn other_clock(clock: u32) -> u64 {
    // SAFETY: As in `by_call`. CAST: likewise.
    unsafe {
        if clock == uapi::clock::BOOTTIME {
            bindings::ktime_get_with_offset(bindings::tk_offsets_TK_OFFS_BOOT) as u64
        } else {
            bindings::ktime_get_raw() as u64
        }
    }
}

/// `CLOCK_MONOTONIC` in nanoseconds.
#[inline(always)]
pub(crate) fn monotonic() -> u64 {
    match read_quickly() {
        Some(nanoseconds) => nanoseconds,
        None => by_call(),
    }
}

/// Has [`read_quickly`] have an answer, as long as what it returns lives. At most one at a time.
pub(crate) fn quick() -> Option<Quick> {
    Quick::new(by_call)
}
