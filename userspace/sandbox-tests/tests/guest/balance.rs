// SPDX-License-Identifier: GPL-2.0-only

//! `record` misses nothing: of each thread of a program, as many faults as the kernel counted, whatever the
//! program does.

use std::fs;

use sandbox_tests::{
    group::Group,
    guest, module,
    program::Program,
    swap,
    trace::{matches, Row, Trace, Traced},
    truth::Truth,
};

/// Faults by fate.
fn fates(faults: &[Row]) -> (u64, u64) {
    let of = |fate| faults.iter().filter(|row| row.fate == fate).count() as u64;
    (of("minor"), of("major"))
}

#[test]
fn sixty_four_threads_that_fork_execute_exit_and_kill_each_other() {
    guest::test(|_| {
        let _module = module::load_idle();
        let seed = "64";
        println!("seed {seed}");
        let options = ["--ring-kib", "16384"];
        let program = [
            "turmoil",
            "--threads",
            "64",
            "--rounds",
            "4",
            "--depth",
            "1",
        ];
        let program = Program::workload(&[&program[..], &["--seed", seed]].concat(), None, None);
        let Traced { trace, usage, .. } = Trace::of_program(&options, program);
        usage.assert_success();
        let text = trace.assert_balance();
        let rows = trace.rows();
        let count = |event: &str| rows.iter().filter(|row| row.event == event).count();
        println!(
            "{} faults, {} threads made, {} programs executed\n{text}",
            count("fault"),
            count("fork"),
            count("exec")
        );
        // The first process alone has 64 threads beside its first.
        assert!(count("fork") > 64, "{} threads were made", count("fork"));
        assert_eq!(count("exit"), count("fork") + 1, "threads that ended");
    });
}

#[test]
fn a_program_that_has_less_memory_than_it_uses() {
    guest::test(|_| {
        let _disk = swap::Disk::for_swap(256);
        let _module = module::load_idle();
        // Two children of 16 MiB each.
        let limit = (12 << 20).to_string();
        let limited = Group::limited("limited", "memory", "memory.max", &limit);
        let program = [
            "pressure",
            "--processes",
            "2",
            "--pages",
            "4096",
            "--passes",
            "3",
        ];
        let program = Program::workload(&program, None, None);
        program.wait_at_gate();
        limited.add(program.pid());
        let Traced { trace, usage, .. } = Trace::of_program(&["--ring-kib", "16384"], program);
        usage.assert_success();
        println!("{}", trace.assert_balance());
        let faults = trace.faults();
        assert_eq!(
            fates(&faults),
            (usage.minor, usage.major),
            "minor and major faults, in the trace and by getrusage"
        );
        let swapped_in: Vec<Row> = faults
            .into_iter()
            .filter(|row| row.kind == "swap-in")
            .collect();
        let (minor, major) = fates(&swapped_in);
        println!("{usage:?}; swapped in: {minor} minor, {major} major");
        // 32 MiB, and each page is needed again: those that do not fit come back twice.
        assert!(
            major > 0 && minor + major >= 2 * (8192 - 3072),
            "swapped in: {minor} minor, {major} major"
        );
    });
}

#[test]
fn a_mapped_file_that_is_not_in_memory() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let reported = folder.path().join("truth");
        let file = module::kernel_image();
        let program = ["cold", "--path", &file, "--pages", "400", "--every", "2"];
        let program = Program::workload(&program, Some(&reported), None);
        let Traced { trace, usage, .. } = Trace::of_program(&[], program);
        usage.assert_success();
        trace.assert_balance();
        let faults = trace.faults();
        assert_eq!(
            fates(&faults),
            (usage.minor, usage.major),
            "minor and major faults, in the trace and by getrusage"
        );
        let cold = matches(&Truth::read(&reported), &faults);
        let name = fs::canonicalize(&file).unwrap();
        for (row, page) in cold.iter().zip((0..400).step_by(2)) {
            assert_eq!(
                (&*row.fate, row.file_offset, &*row.mapping),
                (
                    "major",
                    Some(page * guest::page_size() as u64),
                    name.to_str().unwrap()
                ),
                "{row:?}"
            );
        }
    });
}
