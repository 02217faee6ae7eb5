// SPDX-License-Identifier: GPL-2.0-only

//! The time before which no record can come any more.

use fault_tracer_uapi::clock;
use rustix::{
    thread::{membarrier, MembarrierCommand},
    time::{clock_gettime, ClockId},
};

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

    /// Its time now, in nanoseconds.
    pub fn now(self) -> u64 {
        let time = clock_gettime(match self {
            Self::Monotonic => ClockId::Monotonic,
            Self::Boottime => ClockId::Boottime,
            Self::Raw => ClockId::MonotonicRaw,
        });
        // CAST: the clocks count from the boot on and are never negative.
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    }

    /// What is to be added to its time to get nanoseconds since 1970, as of now.
    pub fn wall_offset(self) -> WallOffset {
        let wall = || {
            let time = clock_gettime(ClockId::Realtime);
            time.tv_sec * 1_000_000_000 + time.tv_nsec
        };
        let reading = || {
            let before = self.now();
            let wall = wall();
            let after = self.now();
            let half = (after - before).div_ceil(2);
            WallOffset {
                error_ns: half,
                // CAST: in hundreds of years.
                offset_ns: wall - (before + half) as i64,
            }
        };
        // The tightest of some: each may be interrupted.
        (0..7).fold(reading(), |best, _| {
            let next = reading();
            if next.error_ns < best.error_ns {
                next
            } else {
                best
            }
        })
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
pub fn settle(clock: Clock) -> u64 {
    let time = clock.now();
    match membarrier(MembarrierCommand::Global) {
        Ok(()) => time,
        Err(_) => time.saturating_sub(MARGIN_NS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_horizon_moves_on_and_stays_behind_the_clock() {
        for clock in [Clock::Monotonic, Clock::Boottime, Clock::Raw] {
            let first = settle(clock);
            let second = settle(clock);
            assert!(first <= second && second <= clock.now());
        }
    }

    #[test]
    fn clocks_have_an_offset_to_wall_time() {
        for clock in [Clock::Monotonic, Clock::Boottime, Clock::Raw] {
            let wall = clock.now() as i64 + clock.wall_offset().offset_ns;
            let since_1970 = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
            assert!((since_1970.as_nanos() as i64 - wall).abs() < 1_000_000_000);
        }
    }
}
