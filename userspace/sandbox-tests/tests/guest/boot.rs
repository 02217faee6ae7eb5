// SPDX-License-Identifier: GPL-2.0-only

//! The session of the module parameters: `insmod fault_tracer.ko pid=N`, with and without `log=1`, and
//! its adoption by a file.

use std::{path::Path, process::Command};

use fault_tracer_uapi::{mode, session_flag, state};
use sandbox_tests::{
    check,
    device::{Recording, Session},
    guest, module,
    program::Program,
    truth::Truth,
};

fn workload(arguments: &[&str], truth: &Path) -> Program {
    Program::workload(arguments, Some(truth), None)
}

/// The words behind "fault: " of each fault that was printed.
fn printed(lines: &[String]) -> Vec<Vec<&str>> {
    lines
        .iter()
        .filter_map(|line| line.strip_prefix("fault: "))
        .map(|line| line.split(' ').collect())
        .collect()
}

/// The word behind a word.
fn after<'a>(words: &[&'a str], name: &str) -> &'a str {
    words
        .iter()
        .position(|word| *word == name)
        .and_then(|at| words.get(at + 1))
        .unwrap_or_else(|| panic!("no {name} in {words:?}"))
}

#[test]
fn insmod_with_pid_and_log_prints_every_fault() {
    guest::test(|log| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("truth");
        let mut program = workload(&["touch", "--pages", "150", "--order", "random"], &file);
        let pid = program.pid();
        let status = Command::new("insmod")
            .arg(module::path())
            .args([&format!("pid={pid}"), "log=1"])
            .status()
            .expect("cannot run insmod");
        assert!(status.success(), "insmod: {status}");
        let said = log.news();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0].starts_with(&format!("loaded; tracing process {pid} ")),
            "{said:?}"
        );
        program.go();
        program.wait().assert_success();
        let status = Command::new("rmmod")
            .arg("fault_tracer")
            .status()
            .expect("cannot run rmmod");
        assert!(status.success(), "rmmod: {status}");

        let said = log.news();
        let faults = printed(&said);
        let truth = Truth::read(&file);
        let mut addresses = Vec::new();
        for words in &faults {
            assert_eq!(after(words, "process"), pid.to_string());
            assert_eq!(after(words, "thread"), pid.to_string());
            let address = after(words, "address").trim_start_matches("0x");
            let address = u64::from_str_radix(address, 16).expect("an address");
            if truth.covers(pid.unsigned_abs(), address) {
                assert_eq!(after(words, after(words, "address")), "write");
                assert_eq!(after(words, "by"), "user");
                addresses.push(address);
            }
        }
        // An attempt made again is printed again.
        addresses.dedup();
        let expected: Vec<u64> = truth.faults.iter().map(|fault| fault.address).collect();
        assert!(
            addresses == expected,
            "{} addresses in the kernel log, {} touched",
            addresses.len(),
            expected.len()
        );
        let [.., totals, count] = said.as_slice() else {
            panic!("too little was said: {said:?}")
        };
        let hits = faults.len();
        assert!(
            totals.starts_with(&format!("unloaded; process {pid}: {hits} faults hit = "))
                && totals.ends_with("; 0 missed"),
            "{hits} faults were printed, and then: {totals}"
        );
        assert_eq!(*count, format!("{hits} faults were printed"));
        assert_eq!(said.len(), hits + 2, "lines at and before the unloading");
    });
}

#[test]
fn modinfo_describes_every_parameter() {
    guest::test(|_| {
        let output = Command::new("modinfo")
            .args(["-F", "parm"])
            .arg(module::path())
            .output()
            .expect("cannot run modinfo");
        let text = String::from_utf8(output.stdout).unwrap();
        let mut names = Vec::new();
        for line in text.lines() {
            let (name, description) = line.split_once(':').expect("NAME:DESCRIPTION");
            assert!(
                description.trim().len() > 20,
                "{name} is not described: {line}"
            );
            names.push(name);
        }
        names.sort_unstable();
        assert_eq!(names, ["follow", "log", "pid", "ring_kib"], "{text}");
    });
}

#[test]
fn the_totals_at_unload_balance_and_the_newest_are_kept() {
    guest::test(|log| {
        let folder = tempfile::tempdir().unwrap();
        let ring = guest::smallest_ring_kib();
        let mut program = workload(&["touch", "--pages", "2000"], &folder.path().join("truth"));
        let loaded = module::load(&format!("pid={} ring_kib={ring}", program.pid())).unwrap();
        program.go();
        program.wait().assert_success();
        loaded.unload().unwrap();
        let said = log.of_module();
        let numbers: Vec<u64> = said
            .last()
            .unwrap()
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|word| word.parse().ok())
            .collect();
        let [_pid, hits, recorded, dropped, overwritten, missed] = numbers[..] else {
            panic!("six numbers expected: {said:?}")
        };
        assert_eq!(hits, recorded + dropped + overwritten, "{said:?}");
        assert_eq!((dropped, missed), (0, 0), "{said:?}");
        assert!(
            hits > 2000 && overwritten >= hits - 2 * (guest::page_size() as u64 / 32),
            "{said:?}"
        );
    });
}

#[test]
fn a_file_adopts_the_boot_session_and_it_goes_on_after_the_close() {
    guest::test(|log| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("truth");
        let mut program = workload(&["children", "--count", "20", "--pages", "20"], &file);
        let loaded = module::load(&format!("pid={} ring_kib=4096", program.pid())).unwrap();
        log.news();

        let first = Session::open().unwrap();
        assert_eq!(first.info().state, state::IDLE);
        first.adopt().unwrap();
        let info = first.info();
        assert_eq!(info.state, state::RUNNING);
        assert_eq!(info.mode, mode::OVERWRITE);
        assert_eq!(info.flags, session_flag::BOOT | session_flag::FOLLOW);
        assert_eq!(info.ring_bytes, 4 << 20);
        assert_eq!(info.live_targets, 1);

        let second = Session::open().unwrap();
        for lines in [1, 0] {
            assert_eq!(
                second.adopt().unwrap_err().raw_os_error(),
                Some(libc::EBUSY)
            );
            assert_eq!(log.news().len(), lines, "each reason is said once");
        }
        let overviews = second.overviews();
        assert_eq!(overviews.len(), 1);
        assert_eq!(overviews[0].first_target, program.pid());
        assert_eq!(overviews[0].named_targets, 1);
        assert_eq!(
            overviews[0].flags,
            session_flag::BOOT | session_flag::FOLLOW
        );

        // Closed without a stop: what it recorded so far stays, and more comes.
        drop(first);
        program.go();
        program.wait().assert_success();
        second.adopt().unwrap();
        assert_eq!(second.info().live_targets, 0);
        let recording: Recording = second.finish();
        recording.assert_complete();
        check::matches(&Truth::read(&file), &recording);
        drop(second);
        loaded.unload().unwrap();
    });
}

#[test]
fn there_is_nothing_to_adopt_without_a_pid() {
    guest::test(|log| {
        let _module = module::load_idle();
        let session = Session::open().unwrap();
        log.news();
        for lines in [1, 0] {
            assert_eq!(
                session.adopt().unwrap_err().raw_os_error(),
                Some(libc::ENOENT)
            );
            assert_eq!(log.news().len(), lines, "each reason is said once");
        }
    });
}

#[test]
fn the_parameter_follow_turns_following_off() {
    guest::test(|_| {
        let folder = tempfile::tempdir().unwrap();
        let mut program = workload(
            &["children", "--count", "10", "--pages", "20"],
            &folder.path().join("truth"),
        );
        let pid = program.pid().unsigned_abs();
        let _module = module::load(&format!("pid={pid} follow=0")).unwrap();
        program.go();
        program.wait().assert_success();
        let session = Session::open().unwrap();
        session.adopt().unwrap();
        let recording = session.finish();
        assert!(!recording.is_empty());
        assert!(
            recording
                .cpus
                .iter()
                .flatten()
                .all(|record| record.pid() == pid),
            "a child was followed"
        );
    });
}
