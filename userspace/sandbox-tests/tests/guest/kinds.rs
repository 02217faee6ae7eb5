// SPDX-License-Identifier: GPL-2.0-only

//! Each kind of fault carries the flags that tell it from the others.

use std::{fs, process::Command};

use sandbox_tests::{
    check,
    device::Setup,
    guest, module,
    program::{self, Run},
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

/// Runs a program of the system that must succeed.
fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("cannot run {program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn faults_of_pages_that_were_swapped_out() {
    guest::test(|_| {
        run("modprobe", &["zram"]);
        fs::write("/sys/block/zram0/disksize", "64M").expect("cannot make a compressed disk");
        run("mkswap", &["/dev/zram0"]);
        run("swapon", &["/dev/zram0"]);
        let _module = module::load_idle();
        traced(&["swap", "--pages", "1000"]);
        run("swapoff", &["/dev/zram0"]);
        fs::write("/sys/block/zram0/reset", "1").expect("cannot reset the compressed disk");
    });
}
