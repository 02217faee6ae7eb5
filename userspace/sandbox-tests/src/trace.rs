// SPDX-License-Identifier: GPL-2.0-only

//! Traces made by the tool itself, `fault-tracer record`, and read through its `verify` and `export`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde::Deserialize;

use crate::{
    device::Session,
    program::{Program, Usage},
    tool,
    truth::{Fault, Place, Truth},
};

/// How many differences a failure shows.
const SHOWN: usize = 8;

/// A trace file, in a folder of its own.
pub struct Trace {
    folder: tempfile::TempDir,
    /// What the recorder wrote to standard error.
    pub said: String,
    /// What the recorder needed, without a command that it started.
    pub recorder: Option<Usage>,
}

/// A program that was traced by its id.
pub struct Traced {
    /// What was recorded.
    pub trace: Trace,
    /// How the program ended, and what the kernel counted from the beginning of the recording on.
    pub usage: Usage,
    /// How long it ran.
    pub took: Duration,
}

/// A row of `fault-tracer export -f jsonl --events`.
#[derive(Clone, Debug, Deserialize)]
pub struct Row {
    /// Event.
    pub event: String,
    /// Time by the clock of the trace.
    pub time_ns: u64,
    /// Process.
    #[serde(default)]
    pub pid: u32,
    /// Thread.
    #[serde(default)]
    pub tid: u32,
    /// Address of a fault.
    #[serde(default)]
    pub address: u64,
    /// `read`, `write` or `execute`.
    #[serde(default)]
    pub access: String,
    /// Names of the flags, joined by `|`.
    #[serde(default)]
    pub flags: String,
    /// Kind of a fault.
    #[serde(default)]
    pub kind: String,
    /// Fate of a fault.
    #[serde(default)]
    pub fate: String,
    /// Name of the process.
    pub process: Option<String>,
    /// Path of the program.
    pub program: Option<String>,
    /// File of the code that faulted.
    pub object: Option<String>,
    /// Name of the mapping.
    #[serde(default)]
    pub mapping: String,
    /// Rights of the mapping.
    pub permissions: Option<String>,
    /// Offset in the file.
    pub file_offset: Option<u64>,
    /// How long the fault took, of a recording with durations.
    pub duration_ns: Option<u64>,
    /// Size of the page that the fault mapped, of such a recording, where it is known.
    pub page_bytes: Option<u64>,
    /// NUMA node of that page, likewise.
    pub page_node: Option<u32>,
    /// How many pages it mapped beside that one, likewise.
    pub around: Option<u32>,
}

impl Row {
    /// Whether the fault has a flag.
    pub fn has(&self, flag: &str) -> bool {
        self.flags.split('|').any(|name| name == flag)
    }

    /// Where the fault was.
    pub fn place(&self) -> Place {
        Place {
            pid: self.pid,
            tid: self.tid,
            address: self.address,
        }
    }
}

impl From<&Row> for Fault {
    fn from(row: &Row) -> Self {
        // In the order of their bits, as a truth has them.
        let names: Vec<&str> = row
            .flags
            .split('|')
            .filter(|name| !["", "tried", "vma-lock"].contains(name))
            .collect();
        Self {
            pid: row.pid,
            tid: row.tid,
            address: row.address,
            access: match &*row.access {
                "execute" => "x".into(),
                other => other.chars().take(1).collect(),
            },
            flags: if names.is_empty() {
                "-".into()
            } else {
                names.join(",")
            },
        }
    }
}

impl Trace {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().expect("cannot make a folder"),
            said: String::new(),
            recorder: None,
        }
    }

    /// A trace file that was written by others.
    pub fn of_file(file: &Path) -> Self {
        let trace = Self::new();
        fs::copy(file, trace.file())
            .unwrap_or_else(|error| panic!("cannot read {}: {error}", file.display()));
        trace
    }

    /// Records a command from its beginning to its end, which must be a good one.
    #[track_caller]
    pub fn of_command(options: &[&str], command: &[&str]) -> Self {
        let mut trace = Self::new();
        let file = trace.file();
        let output = ["record", "-o", file.to_str().expect("a plain path")];
        trace.said = tool::run(&[&output, options, &["--"], command].concat(), 0);
        trace
    }

    /// Records a program that waits at its gate until all of its processes have ended. It must be the only
    /// recording.
    #[track_caller]
    pub fn of_program(options: &[&str], mut program: Program) -> Traced {
        let mut trace = Self::new();
        program.wait_at_gate();
        let (minor, major) = program.faults_so_far();
        let said = trace.folder.path().join("said");
        let recorder = Self::start(&trace.file(), &said, options, program.pid());
        let recorder_said = || fs::read_to_string(&said).unwrap_or_default();
        let device = Session::open().expect("cannot open the device");
        while device.overviews().is_empty() {
            assert!(
                recorder.is_running(),
                "the recorder does not record:\n{}",
                recorder_said()
            );
            std::thread::yield_now();
        }
        let started = Instant::now();
        program.go();
        let mut usage = program.wait();
        let took = started.elapsed();
        usage.minor -= minor;
        usage.major -= major;
        let recorder = recorder.wait();
        trace.said = recorder_said();
        assert_eq!(recorder.status, 0, "the recorder said:\n{}", trace.said);
        trace.recorder = Some(recorder);
        Traced { trace, usage, took }
    }

    /// Starts the recorder. Its words go to a file.
    fn start(file: &Path, said: &Path, options: &[&str], pid: i32) -> Program {
        let pid = pid.to_string();
        let mut words = vec![
            "record",
            "-o",
            file.to_str().expect("a plain path"),
            "-p",
            &pid,
        ];
        words.extend(options);
        let said = File::create(said).expect("cannot make a file");
        let mut recorder = Program::with_stderr("fault-tracer", words, &said);
        recorder.go();
        recorder
    }

    /// The file.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("faults.arrows")
    }

    fn name(&self) -> String {
        self.file().to_str().expect("a plain path").to_owned()
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        fs::metadata(self.file()).expect("no trace file").len()
    }

    /// Checks that `verify` finds no difference and that the module lost nothing; returns what it said.
    #[track_caller]
    pub fn assert_balance(&self) -> String {
        let text = tool::run(&["verify", &self.name()], 0);
        assert!(text.contains("found, difference 0\n"), "{text}");
        assert!(
            text.contains(" 0 dropped + 0 overwritten; 0 missed"),
            "{text}"
        );
        text
    }

    /// In another format.
    #[track_caller]
    pub fn export(&self, format: &str, options: &[&str]) -> String {
        tool::export(&self.name(), format, options)
    }

    /// All rows.
    #[track_caller]
    pub fn rows(&self) -> Vec<Row> {
        let text = self.export("jsonl", &["--events"]);
        text.lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in: {line}"))
            })
            .collect()
    }

    /// Its faults; where attempts are rows of their own, the last attempt of each.
    #[track_caller]
    pub fn faults(&self) -> Vec<Row> {
        let mut rows = self.rows();
        rows.retain(|row| row.event == "fault" && row.fate != "retried");
        rows
    }

    /// What the trace says of itself.
    #[track_caller]
    pub fn comment(&self, key: &str) -> String {
        let text = self.export("csv", &["--comments"]);
        let start = format!("# {key}: ");
        text.lines()
            .find_map(|line| line.strip_prefix(&start))
            .unwrap_or_else(|| panic!("no comment {key} in:\n{}", &text[..text.len().min(2000)]))
            .to_owned()
    }
}

/// Checks that exactly the faults of the truth are among those at the addresses that it covers, in their
/// order, of their kinds and fates; returns them.
#[track_caller]
pub fn matches(truth: &Truth, faults: &[Row]) -> Vec<Row> {
    assert!(
        !truth.faults.is_empty() || !truth.failed.is_empty(),
        "the program reported no faults: nothing was tested"
    );
    let covered: Vec<Row> = faults
        .iter()
        .filter(|row| truth.covers(row.pid, row.address))
        .cloned()
        .collect();
    let failed: BTreeSet<Place> = covered
        .iter()
        .filter(|row| row.fate == "failed")
        .map(Row::place)
        .collect();
    assert_eq!(
        failed,
        truth.failed.iter().copied().collect(),
        "faults that failed"
    );
    let mut expected = BTreeMap::<u32, Vec<(Fault, &str)>>::new();
    for (fault, kind) in truth.faults.iter().zip(&truth.kinds) {
        expected
            .entry(fault.tid)
            .or_default()
            .push((fault.clone(), kind));
    }
    let mut found = BTreeMap::<u32, Vec<(Fault, &str)>>::new();
    for row in covered.iter().filter(|row| row.fate != "failed") {
        found
            .entry(row.tid)
            .or_default()
            .push((Fault::from(row), &row.kind));
    }
    let mut problems = Vec::new();
    let threads: BTreeSet<u32> = expected.keys().chain(found.keys()).copied().collect();
    for tid in threads {
        let [expected, found] =
            [&expected, &found].map(|of| of.get(&tid).map_or(&[][..], Vec::as_slice));
        let differs = expected.iter().zip(found).position(|(a, b)| {
            let same_kind = a.1 == b.1 || b.0.is_changing() && b.1 == "changing";
            !a.0.is(&b.0) || !same_kind
        });
        if let Some(at) = differs {
            problems.push(format!(
                "thread {tid}, fault {at}: expected {:x?}, recorded {:x?}",
                expected[at], found[at]
            ));
        } else if expected.len() != found.len() {
            problems.push(format!(
                "thread {tid}: {} faults expected, {} recorded",
                expected.len(),
                found.len()
            ));
        }
    }
    assert!(
        problems.is_empty(),
        "{} threads differ from what the program reported:\n{}",
        problems.len(),
        problems[..problems.len().min(SHOWN)].join("\n")
    );
    covered
}
