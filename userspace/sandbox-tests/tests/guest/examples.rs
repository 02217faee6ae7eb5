// SPDX-License-Identifier: GPL-2.0-only

//! The examples of the documents print the faults that there were.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use sandbox_tests::{
    device::Session,
    guest, module,
    program::Program,
    truth::{Fault, Truth},
};

const CHECKOUT: &str = "/checkout";

/// Runs an example on a program with known faults.
fn prints_the_faults(mut example: Command) {
    let folder = tempfile::tempdir().unwrap();
    let reported = folder.path().join("truth");
    let arguments = [
        "touch",
        "--pages",
        "300",
        "--threads",
        "2",
        "--access",
        "write",
    ];
    let mut program = Program::workload(&arguments, Some(&reported), None);
    program.wait_at_gate();
    let mut child = example
        .arg(program.pid().to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("cannot run the example");
    let device = Session::open().unwrap();
    while device.overviews().is_empty() {
        let ended = child.try_wait().unwrap();
        assert!(ended.is_none(), "the example has ended: {ended:?}");
        std::thread::yield_now();
    }
    program.go();
    program.wait().assert_success();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let truth = Truth::read(&reported);
    let mut found: Vec<(u32, u64, String)> = Vec::new();
    let text = String::from_utf8(output.stdout).unwrap();
    for line in text.lines() {
        let [_, pid, tid, address, access] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("not a fault: {line}");
        };
        let address = u64::from_str_radix(address.trim_start_matches("0x"), 16).unwrap();
        if truth.covers(pid.parse().unwrap(), address) {
            found.push((tid.parse().unwrap(), address, access.to_owned()));
        }
    }
    found.sort();
    // A further attempt is a record of its own.
    found.dedup();
    let place = |fault: &Fault| (fault.tid, fault.address, fault.access.clone());
    let mut expected: Vec<_> = truth.faults.iter().map(place).collect();
    expected.sort();
    assert_eq!(expected.len(), 600);
    assert_eq!(found, expected);
    let lines = text.lines().count();
    let account = format!("{lines} hits = {lines} recorded + 0 dropped; 0 missed\n");
    assert_eq!(said, account);
}

#[test]
fn the_one_in_c_prints_the_faults() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let example = folder.path().join("faults");
        let compiled = Command::new("gcc")
            .args(["-Wall", "-Wextra", "-Werror", "-I"])
            .arg(Path::new(CHECKOUT).join("uapi"))
            .arg("-o")
            .arg(&example)
            .arg(Path::new(CHECKOUT).join("docs/examples/faults.c"))
            .status()
            .expect("cannot run gcc");
        assert!(compiled.success());
        prints_the_faults(Command::new(&example));
    });
}

#[test]
fn the_one_in_python_prints_the_faults() {
    guest::test(|_| {
        let _module = module::load_idle();
        prints_the_faults(Command::new(
            Path::new(CHECKOUT).join("docs/examples/faults.py"),
        ));
    });
}
