// SPDX-License-Identifier: GPL-2.0-only

//! `fault-tracer archive`: keeps the files that the symbols of a trace are in, for another machine or another day.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use clap::Args;
use fault_tracer_symbols::Symbolizer;
use fault_tracer_trace::{BuildId, Object, Row};

use crate::{
    input, note,
    text::{numbers::counted, progress::shown},
};

/// The end of the help.
pub const MORE: &str = "\
Each file of code in the trace, or its debug file where there is one, is copied to DIR/.build-id/xx/yyyy.debug. The other \
commands look there if DIR is beside FILE under its own name, else with --debug-dir. A file that is in DIR already is left. \
Files without a build id cannot be known again and are not copied; nor are the files of JIT compilers \
(/tmp/perf-PID.map, jit-PID.dump): copy them into DIR.

Exit status: 0, also for a trace that was cut off; 1 if it is damaged, or DIR cannot be written.

Examples:
  fault-tracer archive faults.arrows
  tar czf faults.tgz faults.arrows faults.symbols
  fault-tracer report faults.arrows --by symbol    # on another machine";

/// What `archive` takes.
#[derive(Args, Debug)]
pub struct Arguments {
    /// The trace that `fault-tracer record` has written; - is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Put the files into DIR instead of FILE with the extension symbols
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,

    /// Look for symbols also in DIR, by build id (DIR/.build-id/xx/yyyy.debug) or path (DIR/usr/bin/...)
    #[arg(long = "debug-dir", value_name = "DIR")]
    pub debug_dirs: Vec<PathBuf>,
}

impl Arguments {
    fn folder(&self) -> PathBuf {
        let folder = self.output.clone();
        folder.unwrap_or_else(|| input::archive(&self.file))
    }
}

/// Runs the subcommand; returns the exit status.
pub fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let trace = input::open(&arguments.file)?;
    let symbols = Symbolizer::new(trace.metadata(), &arguments.debug_dirs);
    let folder = arguments.folder();
    let mut seen: HashSet<Arc<Object>> = HashSet::new();
    let mut missing = Vec::new();
    let (mut files, mut bytes) = (0, 0);
    let mut error = None;
    for row in shown(trace, "read", true) {
        let text = match row {
            Ok(Row::Text(text)) => text,
            Ok(_) => continue,
            Err(end) => {
                error = Some(end);
                break;
            }
        };
        if !seen.insert(Arc::clone(&text.object)) {
            continue;
        }
        let found = match &text.object.build_id {
            BuildId::Of(build_id) => symbols
                .file_of(&text.object)
                .map(|file| file.map(|file| (file, build_id))),
            // The kernel's own code has no file.
            _ if !text.object.name.starts_with('/') => Ok(None),
            BuildId::Absent => Err("it has no build id".into()),
            BuildId::Unread => Err("it could not be read while it ran".into()),
        };
        match found {
            Ok(Some((file, build_id))) => {
                let (first, rest) = build_id.split_at_checked(2).unwrap_or((build_id, ""));
                let place = folder.join(".build-id").join(first);
                let copied = keep(&file, &place, &format!("{rest}.debug"));
                bytes += copied
                    .with_context(|| format!("{} cannot be kept", file.display()))?
                    .unwrap_or(0);
                files += 1;
            }
            Ok(None) => {}
            Err(why) => missing.push(format!("{} is not kept: {why}", text.object.name)),
        }
    }
    super::say_notes(&missing);
    note(&format!(
        "{} in {}, {} of them new",
        counted(files, "file", "files"),
        folder.display(),
        counted(bytes, "byte", "bytes")
    ));
    Ok(error.map_or(0, |error| input::report(&arguments.file, error)))
}

/// Copies a file into a folder, unless there is one of that name: whole or not at all. How many bytes were copied.
fn keep(file: &Path, folder: &Path, name: &str) -> io::Result<Option<u64>> {
    let place = folder.join(name);
    if place.try_exists()? {
        return Ok(None);
    }
    fs::create_dir_all(folder)?;
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    let bytes = io::copy(&mut fs::File::open(file)?, &mut new)?;
    // As a file of its own would be.
    fs::set_permissions(
        new.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o644),
    )?;
    match new.persist_noclobber(place) {
        Ok(_) => Ok(Some(bytes)),
        // Another has been quicker.
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
        Err(error) => Err(error.error),
    }
}
