// SPDX-License-Identifier: GPL-2.0-only

//! Runs `fault-tracer`.

use std::{
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread,
};

use crate::{device::Session, program};

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

/// What the rows of a trace say in the columns of these names, as the CSV has them. With `--events` among the options, all
/// rows, else the faults.
#[track_caller]
pub fn columns<const N: usize>(file: &str, names: [&str; N], options: &[&str]) -> Vec<[String; N]> {
    let text = export(file, "csv", options);
    let mut lines = text.lines();
    let head: Vec<&str> = lines.next().expect("a CSV has a head").split(',').collect();
    let places = names.map(|name| {
        let place = head.iter().position(|column| *column == name);
        place.unwrap_or_else(|| panic!("there is no column {name}: {head:?}"))
    });
    lines
        .map(|line| {
            let fields: Vec<&str> = line.split(',').collect();
            places.map(|place| fields[place].to_owned())
        })
        .collect()
}

/// Starts the tool with these arguments, and waits until its session, the only one, runs.
pub fn recorder(arguments: &[&str]) -> Child {
    let mut recorder = command(arguments).spawn().expect("cannot run the tool");
    let session = Session::open().expect("cannot open the device");
    while session.overviews().is_empty() {
        let ended = recorder.try_wait().expect("it is a child of ours");
        assert_eq!(ended, None, "the recorder has ended");
        thread::yield_now();
    }
    recorder
}

/// A recording that runs; killed if a test fails meanwhile.
pub struct Recorder(Child);

impl Recorder {
    /// As [`recorder`].
    pub fn start(arguments: &[&str]) -> Self {
        Self(recorder(arguments))
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.0.try_wait().expect("it is a child of ours").is_none()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        // SAFETY: A system call on a child of ours that was not waited for.
        unsafe { libc::kill(self.0.id() as i32, signal) };
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        self.0.wait().expect("it is a child of ours")
    }

    /// Interrupts it, and expects it to end well.
    #[track_caller]
    pub fn end(mut self) {
        self.signal(libc::SIGINT);
        assert!(self.wait().success());
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
