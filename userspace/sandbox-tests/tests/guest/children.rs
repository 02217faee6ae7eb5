// SPDX-License-Identifier: GPL-2.0-only

//! Children are followed without a gap, those of others are not, and none is if so asked.

use std::collections::BTreeSet;

use sandbox_tests::{
    check,
    device::{Recording, Session, Setup},
    guest, module,
    program::{self, Program, Run},
    truth::Truth,
};

fn setup() -> Setup {
    Setup {
        ring_bytes: 64 << 20,
        ..Setup::default()
    }
}

fn processes(recording: &Recording) -> BTreeSet<u32> {
    recording
        .cpus
        .iter()
        .flatten()
        .map(fault_tracer_uapi::FaultRecord::pid)
        .collect()
}

fn followed(arguments: &[&str], expected: usize) -> Run {
    let run = program::trace(setup(), arguments);
    assert_eq!(
        run.truth.processes().len(),
        expected,
        "processes that the program reported"
    );
    run.recording.assert_complete();
    check::matches(&run.truth, &run.recording);
    run
}

#[test]
fn a_thousand_short_children_are_followed() {
    guest::test(|_| {
        let _module = module::load_idle();
        let run = followed(&["children", "--count", "1000", "--pages", "10"], 1000);
        assert_eq!(
            run.truth.faults.len(),
            10_000,
            "faults that the program reported"
        );
        // Nobody else was followed.
        let mut processes = processes(&run.recording);
        processes.remove(&run.pid);
        assert_eq!(processes, run.truth.processes());
    });
}

#[test]
fn children_that_live_at_the_same_time_are_followed() {
    guest::test(|_| {
        let _module = module::load_idle();
        followed(
            &[
                "children",
                "--count",
                "200",
                "--pages",
                "10",
                "--parallel",
                "50",
            ],
            200,
        );
    });
}

#[test]
fn without_follow_no_child_is_seen() {
    guest::test(|_| {
        let _module = module::load_idle();
        let setup = Setup {
            follow: false,
            ..setup()
        };
        let run = program::trace(setup, &["children", "--count", "50", "--pages", "10"]);
        assert!(!run.recording.is_empty(), "the parent was not seen");
        assert_eq!(processes(&run.recording), BTreeSet::from([run.pid]));
    });
}

#[test]
fn grandchildren_and_executed_programs_are_followed() {
    guest::test(|_| {
        let _module = module::load_idle();
        for how in ["fork", "exec", "thread-exec", "spawn", "sibling"] {
            followed(
                &[
                    "children", "--count", "5", "--depth", "3", "--pages", "20", "--how", how,
                ],
                15,
            );
        }
    });
}

#[test]
fn the_child_of_a_process_that_is_no_target_is_not_followed() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let [of_target, of_other] = ["target", "other"].map(|name| folder.path().join(name));
        let arguments = ["children", "--count", "20", "--pages", "10"];
        let mut target = Program::workload(&arguments, Some(&of_target), None);
        let mut other = Program::workload(&arguments, Some(&of_other), None);
        let session = Session::running(setup());
        session.add(target.pid()).unwrap();
        let target_pid = target.pid().unsigned_abs();
        target.go();
        other.go();
        target.wait().assert_success();
        other.wait().assert_success();
        let recording = session.finish();
        recording.assert_complete();
        let truth = Truth::read(&of_target);
        check::matches(&truth, &recording);
        assert_eq!(Truth::read(&of_other).processes().len(), 20);
        let mut expected = truth.processes();
        expected.insert(target_pid);
        assert_eq!(processes(&recording), expected);
    });
}

#[test]
fn a_child_older_than_the_target_is_not_followed() {
    guest::test(|_| {
        let _module = module::load_idle();
        let mut child = Program::workload(&["touch"], None, None);
        let session = Session::running(setup());
        // This process is the parent of one that exists already.
        session.add(guest::own_pid()).unwrap();
        // Fresh memory, so that this process has faults.
        std::hint::black_box(vec![1u8; 4 << 20]);
        child.go();
        child.wait().assert_success();
        let recording = session.finish();
        recording.assert_complete();
        assert_eq!(
            processes(&recording),
            BTreeSet::from([std::process::id()]),
            "this process was the only target"
        );
    });
}

#[test]
fn a_removed_target_is_silent_and_its_new_children_too() {
    guest::test(|_| {
        let _module = module::load_idle();
        let session = Session::running(setup());
        session.add(guest::own_pid()).unwrap();
        let mut followed = Program::workload(&["touch"], None, None);
        session.remove(guest::own_pid()).unwrap();
        followed.wait_at_gate();
        let hits = session.totals().hits;
        assert!(hits > 0, "this process faulted when it made a child");
        Program::workload(&["touch"], None, None).kill();
        assert_eq!(session.totals().hits, hits, "faults after the removal");
        // A child that was followed before stays a target.
        assert_eq!(session.info().live_targets, 1);
        let child = followed.pid().unsigned_abs();
        followed.go();
        followed.wait().assert_success();
        let recording = session.finish();
        recording.assert_complete();
        assert_eq!(
            processes(&recording),
            BTreeSet::from([std::process::id(), child])
        );
    });
}
