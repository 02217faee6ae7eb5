// SPDX-License-Identifier: GPL-2.0-only

//! The numbers agree with those of others: the kernel's own counters, and perf.

use std::collections::BTreeMap;

use sandbox_tests::{
    check,
    device::{Session, Setup},
    guest, module, perf,
    program::{self, Program},
    truth::Truth,
};

/// What `getrusage` counts is every fault that completed; records also stand for attempts that had to be
/// made again and for faults that failed. The counters that they carry say which are which.
#[test]
fn completed_faults_are_as_many_as_getrusage_counts() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        let file = file.to_str().unwrap();
        for arguments in [
            &["touch", "--pages", "2000", "--access", "read-write"][..],
            &["file", "--path", file, "--access", "read-write"],
        ] {
            let mut program = Program::workload(arguments, None, None);
            program.wait_at_gate();
            let (minor_before, major_before) = program.faults_so_far();
            let session = Session::running(Setup {
                follow: false,
                ..Setup::default()
            });
            session.add(program.pid()).unwrap();
            let pid = program.pid().unsigned_abs();
            program.go();
            let usage = program.wait();
            usage.assert_success();
            let recording = session.finish();
            recording.assert_complete();

            let threads = check::by_thread(&recording);
            let records = &threads[&(pid, pid)];
            assert_eq!(threads.len(), 1, "it has one thread");
            let (first, last) = (records[0], records[records.len() - 1]);
            assert_eq!(
                (first.min_flt_low(), first.maj_flt_low()),
                (check::low_bits(minor_before), check::low_bits(major_before)),
                "{arguments:?}: the first record's counters, and /proc's before it"
            );
            let mut minor = 0u64;
            let mut major = 0u64;
            let mut incomplete = 0u64;
            let last_step = (
                check::low_bits(usage.minor.wrapping_sub(last.min_flt_low().into())),
                check::low_bits(usage.major.wrapping_sub(last.maj_flt_low().into())),
            );
            let steps = records
                .windows(2)
                .map(|pair| check::step(&pair[0], &pair[1]));
            for step in steps.chain([last_step]) {
                match step {
                    (1, 0) => minor += 1,
                    (0, 1) => major += 1,
                    (0, 0) => incomplete += 1,
                    _ => panic!("{arguments:?}: the counters went up by {step:?} between records"),
                }
            }
            assert_eq!(
                (minor, major),
                (usage.minor - minor_before, usage.major - major_before),
                "{arguments:?}: completed minor and major faults, recorded and counted by the kernel"
            );
            assert_eq!(minor + major + incomplete, records.len() as u64);
        }
    });
}

#[test]
fn perf_sees_the_same_faults() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let (data, truth) = (path("perf.data"), path("truth"));
        let workload = program::find(program::WORKLOAD);
        let mut perf = Program::new(
            "perf",
            perf::RECORD.into_iter().chain([
                "-o",
                &data,
                "--",
                workload.to_str().unwrap(),
                "touch",
                "--pages",
                "500",
                "--threads",
                "4",
                "--order",
                "random",
                "--truth",
                &truth,
            ]),
            None,
        );
        let session = Session::running(Setup::default());
        session.add(perf.pid()).unwrap();
        perf.go();
        perf.wait().assert_success();
        let recording = session.finish();
        recording.assert_complete();
        let truth = Truth::read(truth.as_ref());
        check::matches(&truth, &recording);

        let mut ours = BTreeMap::<_, usize>::new();
        let threads = check::by_thread(&recording);
        for &(pid, tid) in threads.keys() {
            for fault in check::completed(&threads, (pid, tid)) {
                if truth.covers(pid, fault.address()) {
                    *ours.entry((tid, fault.address())).or_default() += 1;
                }
            }
        }
        let pid = *truth.processes().first().unwrap();
        let theirs: BTreeMap<_, _> = perf::samples(data.as_ref())
            .into_iter()
            .filter(|((_, address), _)| truth.covers(pid, *address))
            .collect();
        assert_eq!(ours.len(), 2000);
        assert!(
            ours == theirs,
            "recorded {} different faults, perf {}",
            ours.len(),
            theirs.len()
        );
    });
}
