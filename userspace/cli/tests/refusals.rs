// SPDX-License-Identifier: GPL-2.0-only

//! What is refused before anything is traced, so that nothing is destroyed: the module is not needed.

use std::{
    fs::{self, File},
    os::fd::{FromRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    ptr,
};

/// The tool, and its arguments.
fn tool(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fault-tracer"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs it to its end; returns its status and its messages.
fn run(mut command: Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!text.contains("panicked"), "{text}");
    assert!(output.stdout.is_empty());
    (output.status.code(), text)
}

/// A whole trace.
fn whole() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/trace_file/whole")
}

/// The other end of a new terminal.
fn terminal() -> OwnedFd {
    let (mut ours, mut its) = (-1, -1);
    // SAFETY: Both numbers are ours; the terminal's name, settings and size are as the system has them.
    unsafe {
        let none = ptr::null_mut();
        let result = libc::openpty(&raw mut ours, &raw mut its, none, none.cast(), none.cast());
        assert_eq!(result, 0, "there is no terminal");
        // It ends with the test: whoever writes on it must not wait.
        OwnedFd::from_raw_fd(its)
    }
}

#[test]
fn a_command_does_not_write_into_the_recording() {
    for arguments in [
        &["record", "-o", "-", "--", "true"][..],
        &["record", "-o", "/dev/stdout", "--", "true"],
        &["drain", "--", "true"],
        &["drain", "-o", "-", "--", "true"],
    ] {
        let (status, text) = run(tool(arguments));
        assert_eq!(status, Some(125), "{text}");
        assert!(
            text.contains("the command's standard output would be mixed into the recording")
                && text.contains("-o FILE"),
            "{text}"
        );
    }
    // The same file by its name.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    let name = path.to_str().unwrap();
    let mut command = tool(&["record", "-o", name, "--", "true"]);
    command.stdout(File::create(&path).unwrap());
    let (status, text) = run(command);
    assert!(status == Some(125) && text.contains(name), "{text}");
    // Nor does what the tool itself says.
    let mut command = tool(&["record", "-o", "-", "-p", "1"]);
    let file = File::create(&path).unwrap();
    command
        .stdout(file.try_clone().unwrap())
        .stderr(file)
        .status()
        .unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("messages on standard error"), "{text}");
    // What is thrown away cannot be spoilt.
    let mut command = tool(&["record", "-o", "-", "--", "true"]);
    command.stdout(Stdio::null());
    assert!(!run(command).1.contains("mixed"));
}

#[test]
fn a_terminal_gets_nothing_binary() {
    let file = whole();
    let file = file.to_str().unwrap();
    for (arguments, refused) in [
        (&["record", "-o", "-", "-p", "1"][..], true),
        (&["export", file, "-f", "parquet"], true),
        (&["export", file, "-f", "csv"], false),
    ] {
        let mut command = tool(arguments);
        command.stdout(terminal());
        let (status, text) = run(command);
        assert_eq!(text.contains("is a terminal"), refused, "{text}");
        if refused {
            assert_eq!(status, Some(1), "{text}");
        }
    }
}

#[test]
fn command_lines_that_lack_something_end_with_2() {
    for (arguments, hint) in [
        (&["record"][..], "a command after --"),
        (&["record", "ls"], "as in: -- ls"),
        (&["record", "-p", "0"], "use -a to trace all"),
        (&["record", "-o", "x.csv", "--", "ls"], "FILE.arrows"),
        (&["export", "x"], "name a format"),
    ] {
        let (status, text) = run(tool(arguments));
        assert_eq!(status, Some(2), "{text}");
        assert!(text.contains(hint), "{text}");
    }
}

#[test]
fn no_export_replaces_a_recording() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (from, other, csv) = (path("a.arrows"), path("b.arrows"), path("t.csv"));
    let bytes = fs::read(whole()).unwrap();
    fs::write(&from, &bytes).unwrap();
    fs::write(&other, &bytes).unwrap();
    for to in [&from, &other] {
        let (status, text) = run(tool(&["export", &from, "-f", "csv", "-o", to]));
        assert_eq!(status, Some(1), "{text}");
        assert!(text.contains("name another output"), "{text}");
        assert_eq!(fs::read(to).unwrap(), bytes);
    }
    // The name says the format, and another export is replaced.
    for _ in 0..2 {
        let (status, text) = run(tool(&["export", &from, "-o", &csv]));
        assert_eq!(status, Some(0), "{text}");
    }
    let text = fs::read_to_string(&csv).unwrap();
    assert!(text.contains("time_ns,cpu,pid,tid"), "{text}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
}
