// SPDX-License-Identifier: GPL-2.0-only

//! `record` inside of a pid namespace, as in a container: processes are named by their ids there, and reported
//! by those of the initial namespace. And of a process with another root: paths are as it sees them.

use std::{collections::BTreeSet, fs, process::Command};

use sandbox_tests::{
    guest, module, program,
    trace::{matches, Row, Trace},
    truth::Truth,
};

/// Runs a script as process 1 of a new namespace, in a folder; it must succeed.
fn in_namespace(script: &str, folder: &std::path::Path) {
    let output = Command::new("unshare")
        .args([
            "--pid",
            "--fork",
            "--mount-proc",
            "--kill-child",
            "sh",
            "-euc",
        ])
        .arg(script)
        .current_dir(folder)
        .output()
        .expect("cannot run unshare");
    assert!(
        output.status.success(),
        "the script in the namespace failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A trace in the folder, and the truth beside it with the ids that the trace should have: the program's
/// process is its last one to end.
fn checked(folder: &std::path::Path, name: &str) {
    let trace = Trace::of_file(&folder.join(name).with_extension("arrows"));
    trace.assert_balance();
    let truth = Truth::read(&folder.join(name).with_extension("truth"));
    let inner: BTreeSet<u32> = truth.processes();
    assert_eq!(inner.len(), 1, "processes that the program reported");
    let inner = *inner.first().unwrap();
    assert!(inner < 20, "process {inner} is not of a new namespace");
    let reported: BTreeSet<u32> = trace
        .rows()
        .iter()
        .map(|row| row.pid)
        .filter(|&pid| pid != 0)
        .collect();
    assert_eq!(
        reported.len(),
        1,
        "{name}: processes in the trace: {reported:?}"
    );
    let outer = *reported.first().unwrap();
    // Ids of the initial namespace are given in turn, and this process has had its own for long.
    assert!(
        outer > std::process::id(),
        "process {inner} of the namespace is {outer} in the trace"
    );
    let truth = truth.with_ids(|id| if id == inner { outer } else { id });
    matches(&truth, &trace.faults());
}

#[test]
fn a_command_and_a_process_of_a_pid_namespace() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        let workload = program::find(program::WORKLOAD);
        // The second program waits at a pipe until it is recorded, which the first row of the trace tells.
        let script = format!(
            r#"
            fault-tracer record -o command.arrows -- {workload} touch --truth command.truth
            mkfifo gate
            sh -c 'read -r go <gate; exec {workload} touch --truth process.truth' &
            target=$!
            fault-tracer record -o process.arrows -p $target &
            recorder=$!
            until [ -s process.arrows ]; do :; done
            echo go >gate
            wait $target
            wait $recorder
            echo $target >inner
            "#,
            workload = workload.display()
        );
        in_namespace(&script, folder.path());
        checked(folder.path(), "command");
        checked(folder.path(), "process");
        let inner = fs::read_to_string(folder.path().join("inner")).unwrap();
        let truth = Truth::read(&folder.path().join("process.truth"));
        assert_eq!(
            truth.processes(),
            BTreeSet::from([inner.trim().parse().unwrap()]),
            "the process that was named"
        );
    });
}

#[test]
fn the_program_of_a_process_with_another_root_is_as_it_sees_it() {
    guest::test(|_| {
        let _module = module::load_idle();
        let folder = tempfile::tempdir().unwrap();
        // The program waits until its row is in the trace: what it sees can be asked for as long as it lives.
        // Then it needs memory of its own, before it starts another one.
        let script = r#"
            work='x=..........; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do x=$x$x; done'
            mkdir root
            mount --bind / root
            mkfifo gate
            chroot root sh -c "read -r go; $work; cat /etc/passwd" <gate >/dev/null &
            target=$!
            exec 3>gate
            until [ "$(readlink /proc/$target/root)" = "$PWD/root" ]; do :; done
            until [ "$(cat /proc/$target/comm)" = sh ]; do :; done
            fault-tracer record -o faults.arrows -p $target &
            recorder=$!
            until fault-tracer export faults.arrows -f jsonl --events 2>/dev/null |
                grep -q '"event":"present"'; do :; done
            echo go >&3
            exec 3>&-
            wait $target
            wait $recorder
            umount root
            "#;
        let output = Command::new("sh")
            .args(["-euc", script])
            .current_dir(folder.path())
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{error}");
        let trace = Trace::of_file(&folder.path().join("faults.arrows"));
        trace.assert_balance();
        let shell = fs::canonicalize("/bin/sh").unwrap();
        let rows = trace.rows();
        let present = rows.iter().find(|row| row.event == "present").unwrap();
        assert_eq!(present.program.as_deref(), shell.to_str());
        let of_shell = |row: &&Row| row.event == "fault" && row.pid == present.pid;
        let mut of_shell = rows.iter().filter(of_shell).peekable();
        assert!(of_shell.peek().is_some());
        assert!(of_shell.all(|row| row.program.as_deref() == shell.to_str()));
        // Reported by itself, when it executed.
        let exec = rows.iter().find(|row| row.event == "exec").unwrap();
        let cat = fs::canonicalize("/bin/cat").unwrap();
        assert_eq!(exec.program.as_deref(), cat.to_str());
    });
}
