// SPDX-License-Identifier: GPL-2.0-only

//! Programs that a test brings as source text.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Compiles a C program, or a C++ program if its name ends in `.cc`, into a folder; where it lies.
#[track_caller]
pub fn compile(folder: &Path, name: &str, source: &str, options: &[&str]) -> PathBuf {
    let file = folder.join(name);
    fs::write(&file, source).expect("cannot write the source");
    let program = file.with_extension("");
    let compiler = if name.ends_with(".cc") { "g++" } else { "gcc" };
    let status = Command::new(compiler)
        .args(["-w", "-o"])
        .arg(&program)
        .arg(&file)
        .args(options)
        .status();
    let status = status.unwrap_or_else(|error| panic!("{compiler}: {error}"));
    assert!(status.success(), "{compiler} refuses {name}");
    program
}
