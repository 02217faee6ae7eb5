// SPDX-License-Identifier: GPL-2.0-only

//! Runs `fault-tracer`.

use std::process::{Command, Output, Stdio};

use crate::program;

/// The tool with these arguments, and nothing to read.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(program::find("fault-tracer"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs the tool to its end, which must be of that status; returns what it wrote.
#[track_caller]
pub fn run(arguments: &[&str], status: i32) -> String {
    let Output {
        status: ended,
        stdout,
        stderr,
    } = command(arguments).output().expect("cannot run the tool");
    let text = [stdout, stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert_eq!(ended.code(), Some(status), "{arguments:?} wrote:\n{text:?}");
    text.concat()
}

/// A trace in another format, without what `export` says beside it.
#[track_caller]
pub fn export(file: &str, format: &str, options: &[&str]) -> String {
    let output = command(&["export", file, "-f", format])
        .args(options)
        .output()
        .expect("cannot run the tool");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{file} as {format}: {said}");
    String::from_utf8(output.stdout).expect("text")
}
