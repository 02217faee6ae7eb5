// SPDX-License-Identifier: GPL-2.0-only

//! The times of a trace, by each clock, and what they are by the wall clock.

use std::collections::BTreeMap;

use sandbox_tests::{
    guest, module, program,
    trace::{matches, Trace},
    truth::{Place, Truth},
};

#[test]
fn the_wall_clock_s_time_of_a_fault_lies_between_two_readings_of_it() {
    guest::test(|_| {
        let _module = module::load_idle();
        let workload = program::find(program::WORKLOAD);
        for (option, name) in [
            ("monotonic", "CLOCK_MONOTONIC"),
            ("boottime", "CLOCK_BOOTTIME"),
            ("raw", "CLOCK_MONOTONIC_RAW"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let told = folder.path().join("truth");
            let trace = Trace::of_command(
                &["--clock", option],
                &[
                    workload.to_str().unwrap(),
                    "clocked",
                    "--truth",
                    told.to_str().unwrap(),
                ],
            );
            trace.assert_balance();
            assert_eq!(trace.comment("clock"), name);
            let number = |key: &str| -> i64 { trace.comment(key).parse().expect("a number") };
            let (offset, error) = (number("wall_offset_ns"), number("wall_error_ns"));
            let truth = Truth::read(&told);
            let faults = matches(&truth, &trace.faults());
            let times: BTreeMap<Place, u64> = faults
                .iter()
                .map(|row| (row.place(), row.time_ns))
                .collect();
            assert_eq!(truth.wall.len(), 100, "faults with readings");
            for (place, before, after) in &truth.wall {
                let time = times[place] as i64 + offset;
                assert!(
                    (before - error..=after + error).contains(&time),
                    "{name}: the fault at {:#x} was at {time}, not from {before} to {after} \
                     (known to {error} ns)",
                    place.address
                );
            }
        }
    });
}
