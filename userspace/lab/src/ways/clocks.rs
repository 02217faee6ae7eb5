// SPDX-License-Identifier: GPL-2.0-only

//! The clocks, side by side: how fine they are, what a look at them costs, what they count. Most are read from the vDSO, without
//! a system call; the kernel's data for it is a page that faults at the first look.

use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::time::{clock_getres, clock_gettime, ClockId};

use super::{Cases, Way};
use crate::lab::{Lab, Moved};

pub const WAYS: &[Way] = &[Way {
    name: "clocks",
    cases: Cases::Memory,
    shows: "resolution, cost and pace of each clock",
    run: compare,
}];

const CLOCKS: [(ClockId, &str, &str); 7] = [
    (
        ClockId::Realtime,
        "REALTIME",
        "the time of day, which may be set and is slewed",
    ),
    (
        ClockId::RealtimeCoarse,
        "REALTIME_COARSE",
        "the same as of the last tick",
    ),
    (
        ClockId::Monotonic,
        "MONOTONIC",
        "since the boot, slewed as the time of day, without suspend",
    ),
    (
        ClockId::MonotonicRaw,
        "MONOTONIC_RAW",
        "since the boot, by the processor's own pace",
    ),
    (
        ClockId::Boottime,
        "BOOTTIME",
        "as MONOTONIC, suspend included",
    ),
    (
        ClockId::ProcessCPUTime,
        "PROCESS_CPUTIME",
        "what all threads have run",
    ),
    (
        ClockId::ThreadCPUTime,
        "THREAD_CPUTIME",
        "what this thread has run",
    ),
];

const LOOKS: u32 = 10_000;
const PERIOD: Duration = Duration::from_millis(500);

fn nanoseconds(clock: ClockId) -> i128 {
    let time = clock_gettime(clock);
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}

fn compare(_: &Lab) -> Result<Moved> {
    let begun = CLOCKS.map(|(clock, ..)| nanoseconds(clock));
    std::thread::sleep(PERIOD);
    let ended = CLOCKS.map(|(clock, ..)| nanoseconds(clock));
    for (index, (clock, name, counts)) in CLOCKS.into_iter().enumerate() {
        let resolution = clock_getres(clock);
        let started = Instant::now();
        for _ in 0..LOOKS {
            std::hint::black_box(clock_gettime(clock));
        }
        let cost = started.elapsed() / LOOKS;
        println!(
            "{name}: resolution {} ns, {} ns a look, {} ns in a sleep of {} ms: {counts}",
            resolution.tv_sec * 1_000_000_000 + resolution.tv_nsec,
            cost.as_nanos(),
            ended[index] - begun[index],
            PERIOD.as_millis(),
        );
    }
    Ok(Moved::default())
}
