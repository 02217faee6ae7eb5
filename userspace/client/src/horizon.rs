// SPDX-License-Identifier: GPL-2.0-only

//! The time before which no record can come any more.

use fault_tracer_uapi::clock;
use rustix::thread::{membarrier, MembarrierCommand};

use crate::{Result, Session};

/// The clock that a session's records are timed by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clock {
    /// `CLOCK_MONOTONIC`.
    #[default]
    Monotonic,
    /// `CLOCK_BOOTTIME`: goes on while the machine is suspended.
    Boottime,
    /// `CLOCK_MONOTONIC_RAW`: not adjusted by NTP.
    Raw,
}

/// How a clock stands to the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WallOffset {
    /// What is to be added to the clock's time to get nanoseconds since 1970.
    pub offset_ns: i64,
    /// The offset is known to so many nanoseconds, either way.
    pub error_ns: u64,
}

/// A reading of a clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time {
    /// Its time, in nanoseconds.
    pub time_ns: u64,
    /// How it stands to the wall clock.
    pub wall: WallOffset,
}

impl Clock {
    /// The ABI's number of this clock.
    pub fn code(self) -> u32 {
        match self {
            Self::Monotonic => clock::MONOTONIC,
            Self::Boottime => clock::BOOTTIME,
            Self::Raw => clock::RAW,
        }
    }

    /// The kernel's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Monotonic => "CLOCK_MONOTONIC",
            Self::Boottime => "CLOCK_BOOTTIME",
            Self::Raw => "CLOCK_MONOTONIC_RAW",
        }
    }
}

/// Where the kernel offers no way to wait for running fault handlers, they are taken to have ended after
/// this time.
const MARGIN_NS: u64 = 1_000_000_000;

/// Waits until every fault handler that is running has ended, and returns the time of the call: a ring that is
/// found empty *afterwards* brings no record from before it.
///
/// The module takes a fault's time first and shows its record last, and may be held up between the two
/// (by an interrupt, or because a virtual machine's processor does not run). So an empty ring does not
/// prove that nothing older than the present comes from it. But all this happens with preemption
/// disabled, and `membarrier(MEMBARRIER_CMD_GLOBAL)` waits for an RCU grace period, hence for every such
/// section that was under way: what has a time before the call is in its ring when it returns. That takes
/// some milliseconds, in which this thread sleeps.
///
/// Kernels with `nohz_full` do not offer the call; a margin of a second takes its place there. Should a
/// handler be held up for longer than that, [`crate::Merge::late`] counts its record.
///
/// # Errors
///
/// Those of [`Session::time`].
pub fn settle(session: &Session, clock: Clock) -> Result<u64> {
    let time = session.time(clock)?.time_ns;
    Ok(match membarrier(MembarrierCommand::Global) {
        Ok(()) => time,
        Err(_) => time.saturating_sub(MARGIN_NS),
    })
}
