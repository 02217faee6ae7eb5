// SPDX-License-Identifier: GPL-2.0-only

//! Programs that a test brings as source text.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Compiles a C program into a folder; where it lies.
#[track_caller]
pub fn compile(folder: &Path, name: &str, source: &str, options: &[&str]) -> PathBuf {
    let file = folder.join(name);
    fs::write(&file, source).expect("cannot write the source");
    let program = file.with_extension("");
    let status = Command::new("gcc")
        .args(["-w", "-o"])
        .arg(&program)
        .arg(&file)
        .args(options)
        .status();
    assert!(
        status.expect("cannot run gcc").success(),
        "gcc refuses {name}"
    );
    program
}
