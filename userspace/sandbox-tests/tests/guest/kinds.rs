// SPDX-License-Identifier: GPL-2.0-only

//! Each kind of fault carries the flags that tell it from the others, and `record` calls it by its name.

use std::{collections::BTreeMap, fs};

use sandbox_tests::{
    check,
    device::Setup,
    guest, module,
    program::{self, Run},
    swap,
    trace::{self, Trace},
    truth::Truth,
};

fn traced(arguments: &[&str]) -> Run {
    let run = program::trace(Setup::default(), arguments);
    run.recording.assert_complete();
    check::matches(&run.truth, &run.recording);
    run
}

#[test]
fn faults_of_private_and_shared_file_mappings() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let path = path.to_str().unwrap();
        for (mapping, access) in [
            ("private", "read"),
            ("private", "write"),
            ("private", "read-write"),
            ("shared", "read"),
            ("shared", "write"),
        ] {
            traced(&[
                "file",
                "--path",
                path,
                "--mapping",
                mapping,
                "--access",
                access,
            ]);
        }
    });
}

#[test]
fn writes_to_pages_shared_since_a_fork_find_them_present() {
    guest::test(|_| {
        let _module = module::load_idle();
        let run = traced(&["fork-cow", "--pages", "200"]);
        assert_eq!(run.truth.processes().len(), 2);
        assert_eq!(run.truth.faults.len(), 600);
    });
}

#[test]
fn faults_of_the_kernel_on_behalf_of_the_process() {
    guest::test(|_| {
        let _module = module::load_idle();
        traced(&["gup", "--pages", "200"]);
    });
}

#[test]
fn faults_of_huge_pages() {
    guest::test(|_| {
        let reserve = |pages: &str| {
            fs::write("/proc/sys/vm/nr_hugepages", pages).expect("cannot reserve huge pages");
            fs::read_to_string("/proc/sys/vm/nr_hugepages").unwrap()
        };
        assert_eq!(reserve("16"), "16\n", "huge pages that could be reserved");
        let _module = module::load_idle();
        traced(&["hugetlb", "--pages", "16"]);
        assert_eq!(reserve("0"), "0\n");
    });
}

#[test]
fn faults_of_pages_that_were_swapped_out() {
    guest::test(|_| {
        let _disk = swap::Disk::for_swap(64);
        let _module = module::load_idle();
        traced(&["swap", "--pages", "1000"]);
    });
}

/// Records a program and checks each of the faults that it tells, by address, access, flags, kind and fate.
/// How many there are of each kind.
#[track_caller]
fn recorded(arguments: &[&str]) -> BTreeMap<String, usize> {
    let folder = tempfile::tempdir().unwrap();
    let told = folder.path().join("truth");
    let workload = program::find(program::WORKLOAD);
    let command = [
        &[workload.to_str().unwrap()],
        arguments,
        &["--truth", told.to_str().unwrap()],
    ];
    let trace = Trace::of_command(&[], &command.concat());
    trace.assert_balance();
    let faults = trace::matches(&Truth::read(&told), &trace.faults());
    let mut kinds = BTreeMap::new();
    for fault in faults {
        *kinds.entry(fault.kind).or_default() += 1;
    }
    kinds
}

/// As [`recorded`], and there are exactly so many of these kinds and of no others.
#[track_caller]
fn expect(arguments: &[&str], kinds: &[(&str, usize)]) {
    let expected = kinds
        .iter()
        .map(|&(kind, count)| (kind.to_owned(), count))
        .collect();
    assert_eq!(recorded(arguments), expected, "{arguments:?}");
}

#[test]
fn record_names_the_kinds_of_anonymous_memory() {
    guest::test(|_| {
        let _module = module::load_idle();
        expect(&["touch", "--access", "write"], &[("zero-fill", 100)]);
        expect(
            &["touch", "--access", "read-write"],
            &[("zero-page", 100), ("copy-on-write", 100)],
        );
        expect(
            &["fork-cow", "--pages", "50"],
            &[("zero-fill", 50), ("copy-on-write", 100)],
        );
        // Another thread was quicker: the page is there when the fault is tried again.
        expect(&["lazy", "--pages", "50"], &[("spurious", 50)]);
        expect(&["special", "--count", "5"], &[("special", 5)]);
    });
}

#[test]
fn record_names_the_kinds_of_shared_memory() {
    guest::test(|_| {
        let _module = module::load_idle();
        for memory in ["anonymous", "memfd", "posix", "system-v"] {
            expect(&["shared", "--memory", memory], &[("shared-memory", 100)]);
        }
    });
}

#[test]
fn record_names_the_kinds_of_files() {
    guest::test(|_| {
        let _disk = swap::Disk::new(16);
        let _module = module::load_idle();
        let file = |mapping: &str, access: &str, kinds: &[(&str, usize)]| {
            expect(
                &[
                    "file",
                    "--path",
                    swap::DEVICE,
                    "--mapping",
                    mapping,
                    "--access",
                    access,
                ],
                kinds,
            );
        };
        // In the page cache.
        file("private", "read", &[("file-read", 100)]);
        file("private", "write", &[("file-copy", 100)]);
        let both = [("file-read", 100), ("copy-on-write", 100)];
        file("private", "read-write", &both);
        file("shared", "write", &[("file-write", 100)]);
        // The kernel is told of the first write, so as to write the page to the disk some time.
        let both = [("file-read", 100), ("write-notify", 100)];
        file("shared", "read-write", &both);
        // Not in the page cache.
        expect(&["cold", "--path", swap::DEVICE], &[("file-read", 100)]);
        expect(&["touch", "--access", "exec"], &[("file-exec", 100)]);
        // Behind the end of the file: these fail.
        expect(&["beyond", "--count", "5"], &[("shared-memory", 5)]);
    });
}

/// The flags tell who made the access; see `kernel_side.rs` of the workloads for what each call does.
#[test]
fn record_labels_what_the_kernel_touches() {
    guest::test(|_| {
        let _disk = swap::Disk::new(16);
        let _module = module::load_idle();
        // Each of 20 pages: read(2), MADV_POPULATE_READ and _WRITE, O_DIRECT both ways, pages written before
        // and then pinned in the child by process_vm_readv, and process_vm_writev.
        expect(
            &["gup", "--pages", "20", "--direct", swap::DEVICE],
            &[
                ("zero-fill", 5 * 20),
                ("zero-page", 2 * 20),
                ("copy-on-write", 20),
            ],
        );
    });
}

#[test]
fn record_names_swapped_and_huge_pages() {
    guest::test(|_| {
        let _disk = swap::Disk::for_swap(64);
        let _module = module::load_idle();
        expect(
            &["swap", "--pages", "100"],
            &[("zero-fill", 100), ("swap-in", 100)],
        );
        fs::write("/proc/sys/vm/nr_hugepages", "8").expect("cannot reserve huge pages");
        expect(&["hugetlb", "--pages", "8"], &[("hugetlb", 8)]);
        fs::write("/proc/sys/vm/nr_hugepages", "0").expect("cannot give huge pages back");
    });
}
