// SPDX-License-Identifier: GPL-2.0-only

//! The times of a trace, by each clock, and what they are by the wall clock.

use std::{collections::BTreeMap, fs, path::Path, process::Command, thread, time::Duration};

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
            let reported = folder.path().join("truth");
            let trace = Trace::of_command(
                &["--clock", option],
                &[
                    workload.to_str().unwrap(),
                    "clocked",
                    "--truth",
                    reported.to_str().unwrap(),
                ],
            );
            assert_eq!(trace.comment("clock"), name);
            check(&trace, &reported);
        }
    });
}

/// The kernel's clock is that of the records, whatever the recorder's own time namespace makes of it.
#[test]
fn a_recorder_in_a_time_namespace_tells_the_right_time() {
    guest::test(|_| {
        let _module = module::load_idle();
        // No clock may be before the guest's boot.
        while uptime() < 15.0 {
            thread::sleep(Duration::from_millis(200));
        }
        for seconds in ["1000", "-10"] {
            let folder = tempfile::tempdir().unwrap();
            let reported = folder.path().join("truth");
            let file = folder.path().join("faults.arrow");
            let output = Command::new("unshare")
                .args([
                    "--time",
                    "--fork",
                    "--monotonic",
                    seconds,
                    "fault-tracer",
                    "record",
                    "-o",
                ])
                .arg(&file)
                .args(["--", program::WORKLOAD, "clocked", "--truth"])
                .arg(&reported)
                .output()
                .expect("cannot run unshare");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{said}");
            let trace = Trace::of_file(&file);
            check(&trace, &reported);
            let rows = trace.rows();
            let last = rows
                .iter()
                .filter(|row| row.event == "fault")
                .map(|row| row.time_ns)
                .max();
            let end = rows.iter().find(|row| row.event == "end").unwrap().time_ns;
            let behind = end.checked_sub(last.unwrap());
            assert!(
                behind.is_some_and(|ns| ns < 5_000_000_000),
                "the account is of {end} ns, the last fault of {last:?}"
            );
        }
    });
}

/// Seconds since the guest's boot.
fn uptime() -> f64 {
    let text = fs::read_to_string("/proc/uptime").expect("cannot read /proc/uptime");
    let seconds = text.split_whitespace().next().expect("two numbers");
    seconds.parse().expect("seconds")
}

/// Checks that each first fault lies between the program's readings of the wall clock.
fn check(trace: &Trace, reported: &Path) {
    trace.assert_balance();
    let number = |key: &str| -> i64 { trace.comment(key).parse().expect("a number") };
    let (offset, error) = (number("wall_offset_ns"), number("wall_error_ns"));
    let truth = Truth::read(reported);
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
            "the fault at {:#x} was at {time}, not from {before} to {after} (known to {error} ns)",
            place.address
        );
    }
}
