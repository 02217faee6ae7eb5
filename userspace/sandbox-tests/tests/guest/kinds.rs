// SPDX-License-Identifier: GPL-2.0-only

//! Each kind of fault carries the flags that tell it from the others, and `record` calls it by its name.

use std::collections::BTreeMap;

use sandbox_tests::{
    check,
    device::Setup,
    guest, module,
    program::{self, Run},
    setting::reserve_huge_pages,
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
        reserve_huge_pages(16);
        let _module = module::load_idle();
        traced(&["hugetlb", "--pages", "16"]);
        reserve_huge_pages(0);
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

/// Records a program. What it tells, and the trace.
#[track_caller]
fn workload(arguments: &[&str]) -> (Truth, Trace) {
    workload_with(&[], arguments)
}

/// As [`workload`], recorded with these options.
fn workload_with(options: &[&str], arguments: &[&str]) -> (Truth, Trace) {
    let folder = tempfile::tempdir().unwrap();
    let reported = folder.path().join("truth");
    let workload = program::find(program::WORKLOAD);
    let command = [
        &[workload.to_str().unwrap()],
        arguments,
        &["--truth", reported.to_str().unwrap()],
    ];
    let trace = Trace::of_command(options, &command.concat());
    (Truth::read(&reported), trace)
}

/// Records a program and checks each of the faults that it tells, by address, access, flags, kind and fate.
/// The faults.
#[track_caller]
fn recorded_rows(arguments: &[&str]) -> Vec<trace::Row> {
    let (truth, trace) = workload(arguments);
    trace.assert_balance();
    trace::matches(&truth, &trace.faults())
}

/// As [`recorded_rows`]. How many there are of each kind.
#[track_caller]
fn recorded(arguments: &[&str]) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for fault in recorded_rows(arguments) {
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
        expect(&["special", "--count", "5"], &[("special", 5)]);
    });
}

#[test]
fn record_names_the_kinds_of_shared_memory() {
    guest::test(|_| {
        let _module = module::load_idle();
        for memory in ["anonymous", "memfd", "posix", "system-v", "secret"] {
            expect(&["shared", "--memory", memory], &[("shared-memory", 100)]);
        }
    });
}

/// Where a descriptor is open for reading alone, the kernel's mapping has another flag, and `/proc/PID/maps`
/// says `s` as ever.
#[test]
fn shared_mappings_of_descriptors_that_cannot_write_are_shared() {
    guest::test(|_| {
        let _disk = swap::Disk::new(16);
        let _module = module::load_idle();
        for (memory, kind) in [
            ("memfd", "shared-memory"),
            ("posix", "shared-memory"),
            ("system-v", "shared-memory"),
            ("file", "file-read"),
        ] {
            let command = ["shared", "--read-only", "--memory", memory];
            let path = ["--path", swap::DEVICE];
            let rows = recorded_rows(&[&command[..], &path].concat());
            assert_eq!(rows.len(), 100, "{memory}");
            for row in rows {
                assert_eq!(row.kind, kind, "{memory}");
                assert_eq!(row.permissions.as_deref(), Some("r--s"), "{memory}");
            }
        }
    });
}

/// It has a file, and its pages are none of the file's.
#[test]
fn a_private_mapping_of_dev_zero_is_anonymous_memory() {
    guest::test(|_| {
        let _module = module::load_idle();
        expect(
            &["shared", "--memory", "dev-zero"],
            &[("zero-fill", 50), ("zero-page", 50)],
        );
    });
}

/// Entries of page tables that are neither empty nor an ordinary page's, nor of a page that is swapped out.
#[test]
fn record_names_the_kinds_of_odd_entries() {
    guest::test(|_| {
        let _module = module::load_idle();
        let entries = |entry: &str, kinds: &[(&str, usize)]| {
            expect(&["entries", "--entry", entry], kinds);
        };
        // The kernel looks twice where it copies from a page that cannot be had: at first for all bytes.
        for (entry, before, kind) in [
            ("guard", 0, "guard"),
            ("poisoned", 0, "poisoned"),
            ("broken", 20, "poisoned"),
        ] {
            let kinds = recorded(&["entries", "--entry", entry]);
            assert!(kinds[kind] >= 20, "{entry}: {kinds:?}");
            let filled = kinds.get("zero-fill").copied().unwrap_or(0);
            assert_eq!(filled, before, "{entry}: {kinds:?}");
            assert_eq!(
                kinds.len(),
                1 + usize::from(before != 0),
                "{entry}: {kinds:?}"
            );
        }
        entries("write-protected", &[("uffd-wp", 20)]);
        entries("protected", &[("zero-page", 20), ("protected", 20)]);
    });
}

/// Memory that a device has, or that it alone may use. Newer kernels keep the source of a driver that gives it such.
#[test]
fn record_names_the_pages_that_a_device_has() {
    guest::test(|_| {
        let _module = module::load_idle();
        let Some(_driver) = module::load_device_memory() else {
            println!("the sandbox keeps no source of this kernel, and so no driver");
            return;
        };
        for (entry, kind) in [
            ("device-private", "device-private"),
            ("device-exclusive", "device-exclusive"),
        ] {
            let kinds = [("zero-fill", 20), (kind, 20)];
            expect(&["entries", "--entry", entry], &kinds);
        }
    });
}

/// A fault that userfaultfd has a part in is such a one at its first attempt.
#[test]
fn a_fault_that_a_program_handles_is_what_its_first_attempt_was() {
    guest::test(|_| {
        let _module = module::load_idle();
        // Kernels before 7.3 refuse the workload's protection from reads.
        let from_reads = module::kernel_has("CONFIG_USERFAULTFD_RWP");
        let from_reads = from_reads.then_some(("access", "uffd-rwp", "spurious"));
        for (wait, kind, last) in [
            ("missing", "uffd-missing", "spurious"),
            ("write", "uffd-wp", "copy-on-write"),
            ("minor", "uffd-minor", "spurious"),
        ]
        .into_iter()
        .chain(from_reads)
        {
            // As one fault, it is what its first attempt was.
            let lazy = ["lazy", "--pages", "50", "--wait", wait];
            let (truth, trace) = workload(&lazy);
            trace.assert_balance();
            let joined = trace.faults();
            let joined = joined
                .iter()
                .filter(|row| truth.covers(row.pid, row.address) && row.kind == kind);
            assert_eq!(joined.count(), 50, "{wait}");
            // With its attempts apart: the page is there when it is tried again.
            let (truth, trace) = workload_with(&["--attempts"], &lazy);
            trace.assert_balance();
            trace::matches(&truth, &trace.faults());
            let (first, others): (Vec<_>, Vec<_>) = trace
                .rows()
                .into_iter()
                .filter(|row| row.event == "fault" && truth.covers(row.pid, row.address))
                .partition(|row| row.fate == "retried");
            assert!(first.len() >= 50, "{wait}: {} attempts", first.len());
            for row in first {
                assert_eq!(row.kind, kind, "{wait}: {}", row.flags);
                assert!(row.has(kind), "{wait}: {}", row.flags);
            }
            let last = others.iter().filter(|row| row.kind == last).count();
            assert_eq!(last, 50, "{wait}");
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
        // The kernel is emitted the first write, so as to write the page to the disk some time.
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
        reserve_huge_pages(8);
        expect(&["hugetlb", "--pages", "8"], &[("hugetlb", 8)]);
        reserve_huge_pages(0);
    });
}
