// SPDX-License-Identifier: GPL-2.0-only

//! `fault-tracer record --on-demand`: a flight recorder. The newest faults stay in the rings, at no cost but the module's,
//! until somebody asks for them.

use std::{
    collections::HashMap,
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use fault_tracer_client::{uapi::names::escape, Rings};
use fault_tracer_recorder::{Accounts, Failure, Recording};

use super::{files, finish, names, resolver, rows, Finished};
use crate::{
    args::{self, values::size},
    launch::{Asker, How, Launch, Live},
    note,
    output::{Former, Output},
    say,
    text::summary::{contradiction, summary},
};

/// Runs a recording that writes what it has when asked; returns the exit status.
pub fn run(arguments: &args::Record, how: &How, launch: Launch) -> anyhow::Result<u8> {
    let mut live = launch.start()?;
    note(&format!(
        "recording on demand {}: the newest faults, {} on each CPU; write them: fault-tracer snapshot {}",
        live.what(),
        size(live.ring_bytes() / 1024),
        std::process::id()
    ));
    let mut before = None;
    let mut written = 0;
    let mut failed = None;
    loop {
        let asker = match live.next_asker() {
            Ok(Some(asker)) => asker,
            Ok(None) => break,
            Err(error) => {
                failed = Some(error);
                break;
            }
        };
        if let Asker::BadEnd(how) = &asker {
            note(how);
        }
        let result = snapshot(arguments, how, &live, &mut before);
        match &result {
            Ok(_) => written += 1,
            // The recording goes on: the next time there may be room.
            Err(error) => say(&format!("nothing was written: {error:#}")),
        }
        asker.answer(result.as_deref());
    }
    if written == 0 {
        note("the recording has ended, and nobody had asked for what was recorded");
    }
    live.close(failed)
}

/// Writes what is in the rings, and counts from then on. The path of the file.
fn snapshot(
    arguments: &args::Record,
    how: &How,
    live: &Live,
    before: &mut Option<Accounts>,
) -> anyhow::Result<PathBuf> {
    let session = live.session();
    let wall_ns = {
        let time = session.time(how.clock)?;
        // CAST: times fit in 63 bits for 292 years after the boot.
        (time.time_ns as i64).wrapping_add(time.wall.offset_ns)
    };
    let path = free_path(&arguments.output, wall_ns);
    let mut output = Output::open(Some(&path), Former::Renamed)?;
    output
        .begin()
        .with_context(|| format!("{} cannot be written", path.display()))?;
    let (files, programs) = (files(arguments, how), programs());
    let write = |output: &mut Output| -> Result<(Finished, Accounts), Failure> {
        let rings = Rings::by_call(&session)?;
        let mut resolver = resolver(arguments, live, files);
        resolver.expect_snapshot(programs);
        let rows = rows(arguments, how, live, resolver, output)?;
        let mut recording = Recording::new(&session, rings, how.clock, rows)?;
        // At the last moment: what is told of the threads is to be read before it is overwritten.
        session.tell_alive()?;
        recording.take_rest()?;
        let until = recording.accounts()?;
        let mut accounts = until.clone();
        if let Some(before) = &before {
            accounts.count_from(before);
        }
        let finished = finish(&mut recording, how, Ok(accounts))?;
        Ok((finished, until))
    };
    let (finished, until) = match write(&mut output) {
        Ok(done) => done,
        Err(Failure::Module(error)) => return Err(error),
        Err(Failure::Output(error)) => {
            return Err(error).with_context(|| format!("{} is incomplete", path.display()))
        }
    };
    let mut ended = finished.ended(&mut output);
    // A return may have found its fault in the file before.
    ended.stray_returns = 0;
    ended.taken_before = 0;
    let name = output.name();
    for line in summary(live.what(), &name, live.took(), live.ring_bytes(), &ended) {
        note(&line);
    }
    *before = Some(until);
    match contradiction(&ended) {
        Some(error) => Err(error.context(format!("{name} is incomplete"))),
        None => Ok(fs::canonicalize(&path).unwrap_or(path)),
    }
}

/// The programs of the processes that there are, by their ids.
fn programs() -> HashMap<u32, String> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return HashMap::new();
    };
    let program = |entry: fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        // One that has ended since, and a kernel's thread, has none.
        let path = fs::read_link(entry.path().join("exe")).ok()?;
        Some((pid, escape(path.as_os_str().as_bytes())))
    };
    entries.flatten().filter_map(program).collect()
}

/// A name for a file that is not there: `faults-2026-11-30T15-59-08Z.arrows` for `faults.arrows`.
fn free_path(output: &Path, wall_ns: i64) -> PathBuf {
    let stem = output.file_stem().unwrap_or_default().to_string_lossy();
    let extension = output.extension().unwrap_or("arrows".as_ref());
    let mut paths = names::of_time(wall_ns).map(|time| {
        output.with_file_name(format!("{stem}-{time}.{}", extension.to_string_lossy()))
    });
    let free = paths.find(|path| !path.exists());
    free.expect("there are names without end")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_by_the_time() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("faults.arrows");
        let wall_ns = 1_796_054_348_123_456_789;
        let first = free_path(&output, wall_ns);
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(name(&first), "faults-2026-11-30T15-59-08Z.arrows");
        fs::write(&first, "").unwrap();
        let second = free_path(&output, wall_ns);
        assert_eq!(name(&second), "faults-2026-11-30T15-59-08Z-2.arrows");
        assert_eq!(
            name(&free_path(Path::new("x"), wall_ns)),
            "x-2026-11-30T15-59-08Z.arrows"
        );
    }

    #[test]
    fn running_programs_are_listed() {
        let own = std::env::current_exe().unwrap();
        assert_eq!(programs()[&std::process::id()], own.to_str().unwrap());
    }
}
