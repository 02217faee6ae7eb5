// SPDX-License-Identifier: GPL-2.0-only

//! Traces of a recording that goes on, made into Parquet files in the background.
//!
//! ```text
//! FOLDER/_recording/host=…/date=…/NAME.arrows     the trace that is being written, and those that wait
//! FOLDER/host=…/date=…/NAME.parquet               the tables
//! FOLDER/_traces/host=…/date=…/NAME.arrows        the traces of tables, if they are kept
//! ```
//!
//! Spark passes over folders whose names begin with an underscore.

use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{bail, Context as _};
use rustix::process::setpriority_process;

use super::names;
use crate::{
    commands::export,
    note,
    output::{Former, Output},
    say,
};

/// Tables that take longer at the end are waited for in so many words.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where the files of a machine go.
#[derive(Clone, Debug)]
pub struct Folder {
    root: PathBuf,
    /// Its name, as a part of paths.
    host: String,
}

/// Of one trace: where it is, where its table goes, and where it is kept.
#[derive(Clone, Debug)]
pub struct Paths {
    pub trace: PathBuf,
    table: PathBuf,
    kept: PathBuf,
}

impl Folder {
    /// Makes the folder, if it is not there.
    ///
    /// # Errors
    ///
    /// If it cannot be made, or is none.
    pub fn make(root: &Path, host: &str) -> anyhow::Result<Self> {
        if root.as_os_str() == "-" || (root.exists() && !root.is_dir()) {
            bail!(
                "{} is no folder, and --rotate writes many files: name a folder with -o",
                root.display()
            );
        }
        let folder = Self {
            root: root.to_owned(),
            host: partition(host),
        };
        let recording = folder.recording();
        fs::create_dir_all(&recording)
            .with_context(|| format!("{} cannot be made", recording.display()))?;
        Ok(folder)
    }

    fn recording(&self) -> PathBuf {
        self.of_host(self.root.join("_recording"))
    }

    fn of_host(&self, root: PathBuf) -> PathBuf {
        root.join(format!("host={}", self.host))
    }

    /// Those of a trace that begins at a time, in nanoseconds since 1970. It is made, empty: no other recording takes the name.
    ///
    /// # Errors
    ///
    /// Those of making it.
    pub fn take(&self, wall_ns: i64) -> io::Result<Paths> {
        let date = format!("date={}", names::day(wall_ns));
        for time in names::of_time(wall_ns) {
            let paths = self.named(&date, &format!("{}-{time}", self.host));
            if paths.table.exists() || paths.kept.exists() {
                continue;
            }
            make_parent(&paths.trace)?;
            match File::create_new(&paths.trace) {
                // Another recording has it, or has just removed the folder, which was empty.
                Err(error) if is_of_another(&error) => {}
                Err(error) => return Err(error),
                Ok(_) => return Ok(paths),
            }
        }
        unreachable!("there are names without end")
    }

    fn named(&self, date: &str, name: &str) -> Paths {
        let at = |root: PathBuf, extension: &str| {
            self.of_host(root)
                .join(date)
                .join(format!("{name}.{extension}"))
        };
        Paths {
            trace: at(self.root.join("_recording"), "arrows"),
            table: at(self.root.clone(), "parquet"),
            kept: at(self.root.join("_traces"), "arrows"),
        }
    }

    /// Traces of this machine that a recording has left behind which was killed, or had no room for tables.
    ///
    /// # Errors
    ///
    /// Those of looking for them.
    fn left(&self) -> io::Result<Vec<Job>> {
        let mut left = Vec::new();
        for date in fs::read_dir(self.recording())? {
            let date = date?;
            for trace in fs::read_dir(date.path())? {
                let path = trace?.path();
                if path.extension() != Some("arrows".as_ref()) {
                    continue;
                }
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                let paths = self.named(&date.file_name().to_string_lossy(), &name);
                // Another recording is writing it.
                let Ok(output) = Output::open(Some(&path), Former::Replaced) else {
                    continue;
                };
                left.push(Job { paths, output });
            }
        }
        Ok(left)
    }
}

/// A name as a part of a path `key=value`: other signs than these are percent and two digits, as Hive writes them.
fn partition(name: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._".contains(byte);
    let signs = name.bytes().map(|byte| match plain(&byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    signs.collect()
}

fn is_of_another(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound
    )
}

fn make_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

/// A trace that is whole. It stays locked as long as it is there.
pub struct Job {
    pub paths: Paths,
    pub output: Output,
}

/// What has come of all traces.
#[derive(Clone, Copy, Debug, Default)]
pub struct Made {
    /// Tables.
    pub tables: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Traces that could not be made into tables, and are still there.
    pub failed: u64,
}

/// The thread that makes tables.
pub struct Tables {
    jobs: mpsc::Sender<Job>,
    thread: thread::JoinHandle<Made>,
}

impl Tables {
    /// Begins with what was left behind. Signals must be blocked by now: the thread must not be the one that gets them.
    ///
    /// # Errors
    ///
    /// Those of looking for that, and of threads.
    pub fn begin(folder: &Folder, keep_traces: bool) -> anyhow::Result<Self> {
        let left = folder
            .left()
            .with_context(|| format!("{} cannot be read", folder.recording().display()))?;
        let (jobs, received) = mpsc::channel();
        let recording = folder.recording();
        let run = move || {
            // The traced programs come first. Nothing is lost where that cannot be had.
            let _ = setpriority_process(None, 19);
            let mut maker = Maker::new(keep_traces);
            for job in left {
                note(&format!(
                    "a recording has left {} behind: it is made into a table now",
                    job.paths.trace.display()
                ));
                maker.take(job);
            }
            for job in received {
                maker.take(job);
            }
            remove_empty(&recording);
            maker.made
        };
        let thread = thread::Builder::new().name("tables".into()).spawn(run)?;
        Ok(Self { jobs, thread })
    }

    /// Has a trace made into a table.
    ///
    /// # Errors
    ///
    /// If the thread is gone.
    pub fn add(&self, job: Job) -> io::Result<()> {
        let gone = |_| io::Error::other("the thread that makes tables has ended");
        self.jobs.send(job).map_err(gone)
    }

    /// Waits until all are made.
    ///
    /// # Errors
    ///
    /// If the thread has panicked.
    pub fn finish(self) -> anyhow::Result<Made> {
        drop(self.jobs);
        let begun = Instant::now();
        let mut is_said = false;
        while !self.thread.is_finished() {
            if !is_said && begun.elapsed() >= PATIENCE {
                note("the recording has ended; its last tables are being made");
                is_said = true;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let panicked = |_| anyhow::anyhow!("the thread that makes tables has panicked");
        self.thread.join().map_err(panicked)
    }
}

struct Maker {
    keep_traces: bool,
    made: Made,
    /// What was said of symbols: the same files have none in each trace.
    said: HashSet<String>,
}

impl Maker {
    fn new(keep_traces: bool) -> Self {
        Self {
            keep_traces,
            made: Made::default(),
            said: HashSet::new(),
        }
    }

    fn take(&mut self, job: Job) {
        let trace = job.paths.trace.display().to_string();
        match self.make(job) {
            Ok(bytes) => {
                self.made.tables += 1;
                self.made.bytes += bytes;
            }
            Err(error) => {
                self.made.failed += 1;
                say(&format!(
                    "{error:#}: {trace} stays, and the next recording in this folder makes a table of it"
                ));
            }
        }
    }

    fn make(&mut self, job: Job) -> anyhow::Result<u64> {
        let Job { paths, mut output } = job;
        make_parent(&paths.table)
            .with_context(|| format!("{} cannot be made", paths.table.display()))?;
        let notes = export::table(&paths.trace, &paths.table)?;
        let new: Vec<_> = notes
            .into_iter()
            .filter(|note| self.said.insert(note.clone()))
            .collect();
        crate::commands::say_notes(&new);
        let cannot = || format!("{} cannot be moved", paths.trace.display());
        if self.keep_traces {
            if let Err(error) = output.compact(|_| ()) {
                note(&format!(
                    "{} is larger than need be, since it could not be compacted: {error:#}",
                    paths.kept.display()
                ));
            }
            make_parent(&paths.kept)
                .and_then(|()| fs::rename(&paths.trace, &paths.kept))
                .with_context(cannot)?;
        } else {
            fs::remove_file(&paths.trace).with_context(cannot)?;
        }
        Ok(fs::metadata(&paths.table)?.len())
    }
}

/// Removes folders of days that hold nothing any more, and what is above them.
fn remove_empty(recording: &Path) {
    let days = fs::read_dir(recording).into_iter().flatten().flatten();
    for day in days {
        // What is not empty stays.
        let _ = fs::remove_dir(day.path());
    }
    let _ = fs::remove_dir(recording);
    if let Some(above) = recording.parent() {
        let _ = fs::remove_dir(above);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_machines_are_parts_of_paths() {
        for (name, part) in [
            ("web-1.example.org", "web-1.example.org"),
            ("a/b", "a%2Fb"),
            ("ä=", "%C3%A4%3D"),
        ] {
            assert_eq!(partition(name), part);
        }
    }

    #[test]
    fn files_of_one_second_have_different_names() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::make(root.path(), "h").unwrap();
        let time_ns = 1_796_054_348_123_456_789;
        let first = folder.take(time_ns).unwrap();
        let trace = "_recording/host=h/date=2026-11-30/h-2026-11-30T15-59-08Z.arrows";
        assert_eq!(first.trace, root.path().join(trace));
        let table = "host=h/date=2026-11-30/h-2026-11-30T15-59-08Z.parquet";
        assert_eq!(first.table, root.path().join(table));
        make_parent(&first.table).unwrap();
        fs::write(&first.table, "").unwrap();
        fs::remove_file(&first.trace).unwrap();
        for number in 2..4 {
            let next = folder.take(time_ns).unwrap();
            let name = format!("h-2026-11-30T15-59-08Z-{number}.arrows");
            assert!(next.trace.ends_with(name));
        }
    }

    #[test]
    fn a_file_is_no_folder() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Folder::make(file.path(), "h").unwrap_err();
        assert!(error.to_string().contains("name a folder with -o"));
    }
}
