// SPDX-License-Identifier: GPL-2.0-only

//! `fault-tracer verify`: proves that a trace is complete, or says what it lacks.

use std::{
    fs::File,
    io::{self, BufReader, Read, Write as _},
    path::Path,
};

use anyhow::Context as _;
use fault_tracer_trace::{file::Reader, Balance};

use crate::{args, say, FAILED};

/// Opens a file, or standard input.
pub fn open(path: &Path) -> anyhow::Result<Reader<Box<dyn Read>>> {
    let input: Box<dyn Read> = if path.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        let file =
            File::open(path).with_context(|| format!("{} cannot be opened", path.display()))?;
        Box::new(BufReader::with_capacity(1 << 18, file))
    };
    Reader::new(input).with_context(|| path.display().to_string())
}

/// Runs the subcommand; returns the exit status.
pub fn run(arguments: &args::Verify) -> anyhow::Result<u8> {
    let rows = open(&arguments.file)?;
    let mut balance = Balance::new(rows.about().account);
    let mut whole = true;
    for row in rows {
        match row {
            Ok(row) => balance.add(&row),
            Err(error) => {
                whole = false;
                say(&format!(
                    "{}: {:#}",
                    arguments.file.display(),
                    anyhow::Error::from(error)
                ));
            }
        }
    }
    let report = balance.close();
    let mut text = String::new();
    for line in &report.lines {
        text.push_str(line);
        text.push('\n');
    }
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            return Err(error).context("standard output cannot be written")
        }
        _ => {}
    }
    Ok(if report.closes && whole { 0 } else { FAILED })
}
