// SPDX-License-Identifier: GPL-2.0-only

//! The command line.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{
    builder::StyledStr,
    error::{ContextKind, ContextValue, ErrorKind},
    Args, CommandFactory as _, Parser, ValueEnum,
};
use fault_tracer_client::{Clock, Mode, Stacks};
use fault_tracer_trace::export::{Format, Weight};

use choice::ChoiceArgs;
use selection::SelectionArgs;

use crate::commands::{
    advise, archive, diff, flamegraph, generate, plot, report, snapshot, stat, top, watch,
};

pub mod choice;
pub mod selection;
pub mod values;

/// Ring of a session that is not asked for another, in KiB per CPU.
pub const RING_KIB_DEFAULT: u64 = 4096;
/// As [`RING_KIB_DEFAULT`], with stacks by frame pointers: 10 frames are three times as long as a fault.
pub const RING_KIB_FRAMES: u64 = 16 << 10;
/// As [`RING_KIB_DEFAULT`], with copies of stacks, which are a hundred times as long as a fault.
pub const RING_KIB_COPIES: u64 = 64 << 10;

const EXAMPLES: &str = "\
Examples:
  fault-tracer record -- make -j4               trace a command from its first instruction on
  fault-tracer record --pid 1234                trace a running process and its future children
  fault-tracer record -a --duration 10          trace every process for ten seconds
  fault-tracer record --cgroup system.slice     trace a control group until Ctrl-C
  fault-tracer stat -- make -j4                 what faults cost a command, without a file
  fault-tracer report faults.arrows             what a trace shows
  fault-tracer advise faults.arrows             what would save faults, and how many
  fault-tracer plot faults.arrows -o x.html     an interactive picture in one file
  fault-tracer diff a.arrows b.arrows           what has changed
  fault-tracer top -a                           who faults now
  fault-tracer verify faults.arrows             prove that no fault is missing
  fault-tracer drain -o faults.csv -- ls -l     the raw records, as CSV
  fault-tracer drain -o faults.csv              read what `insmod fault_tracer.ko pid=N` records
  fault-tracer status                           what the module is doing

The module must be loaded (modprobe fault_tracer), and the caller be root or have CAP_PERFMON and \
access to /dev/fault_tracer.";

const DRAIN_MORE: &str = "\
The CSV has the columns time_ns,cpu,pid,tid,address,ip,access,flags in the order of time: \
nanoseconds of CLOCK_MONOTONIC, ids of the initial pid namespace, hexadecimal addresses, access r, w \
or x. Lines that begin with # are comments; the last two tell what was lost. A summary goes to \
standard error.

CMD writes to its own standard output, so that its CSV needs a file (-o). A FILE that exists is renamed \
to FILE.old; one that another recording is writing is refused.

The recording ends when all targets have ended (followed children too), or at Ctrl-C or SIGTERM; \
what was recorded until then is written. SIGTERM is passed on to CMD. CMD is never killed: if it \
still runs, its end is awaited, and a further signal leaves it running.

Exit status: that of CMD (128 + N if it was ended by signal N), 126 if it cannot be executed, 127 if \
it is not found, 125 if the recording itself failed. Without CMD: 0, or 1 if it failed. 2 if the \
command line is wrong.

Examples:
  fault-tracer drain -o faults.csv -- make -j4
  fault-tracer drain --mode overwrite --ring-size 64M --pid 1234 -o last.csv
  fault-tracer drain --pid 1234 | grep ,w,";

const RECORD_MORE: &str = "\
FILE is an Arrow IPC stream, which pyarrow, polars, pandas and others read: a row for each fault with \
its mapping, file offset, process, thread, kind (zero-fill, copy-on-write, swap-in, ...) and fate \
(minor, major, retried, failed), and rows for the threads' beginnings and ends. It is readable while \
it is being written, and up to the last second if the recording is killed. At the end a compact copy takes its \
place, if the disk has room for one. A FILE that exists is renamed to FILE.old; one that another recording is \
writing is refused. Standard output (-o -) is for recordings without CMD, which would write to it, too.

A recording of chosen faults (--only, --range, --mapping, --every) counts what it passes over. A fault's fate is known \
then with --latency alone, which --only major and minor bring where the module passes over others.

The recording ends when all targets have ended (followed children too), after --duration, or at Ctrl-C \
or SIGTERM. With --all, --cgroup, --user, --exe and --name only at the last two, or when CMD has ended. SIGTERM is passed on to CMD. CMD is never killed: if it still \
runs, its end is awaited, and a further signal leaves it running.

If the disk gets full, what fits is kept, and the recording ends with an error.

Exit status: as for drain.

Examples:
  fault-tracer record -- make -j4
  fault-tracer record --pid 1234 --duration 10s -o faults.arrows
  fault-tracer record --latency -- make -j4
  fault-tracer record -g -- make -j4
  fault-tracer record -a --on-demand                      # then: fault-tracer snapshot
  fault-tracer record -a --rotate 10m,1G -o /srv/faults   # tables for DuckDB and Spark
  python3 -c 'import polars; print(polars.read_ipc_stream(\"faults.arrows\"))'";

const EXPORT_MORE: &str = "\
A trace that is damaged or cut off is exported as far as it can be read. Without -f, the format is the one of \
FILE's name: .csv, .jsonl, .folded, .json (Chrome trace), .perf (perf script) or .parquet.

Symbols come from the files that the code was in, as long as they are the same (by build id): their debug \
files are looked for in each --debug-dir and in /usr/lib/debug, then the files themselves are taken. Of a \
file that was replaced since, and whose debug file is not found, there are none, and a note says so.

Exit status: 0, also for a trace that was cut off; 1 if it is damaged or FILE cannot be written.

Examples:
  fault-tracer export faults.arrows -o faults.csv
  fault-tracer export faults.arrows -f folded | inferno-flamegraph > faults.svg
  fault-tracer export faults.arrows -o faults.json
  fault-tracer export faults.arrows -o faults.parquet";

const VERIFY_MORE: &str = "\
For each thread whose beginning and end are in the trace, the faults found in it must be as many as its \
own counters rose by in the kernel. Threads that still ran are checked up to the end of the recording.

Exit status: 0 if nothing is missing, 1 if something is or if the trace cannot be read to its end, 3 if \
nothing could be proven: no thread's counters are in the trace.";

/// Records the page faults of programs: where, when and by which access.
#[derive(Debug, Parser)]
#[command(name = "fault-tracer", version, after_help = EXAMPLES, max_term_width = 100)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub subcommand: Subcommand,

    /// Say nothing on standard error but errors: no summary, no progress
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

/// Reads a command line.
///
/// # Errors
///
/// What is wrong with it, and how to mend that.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Arguments, clap::Error> {
    let words: Vec<OsString> = words.into_iter().collect();
    let ends_with_dashes = words.last().is_some_and(|word| word == "--");
    let arguments = Arguments::try_parse_from(words).map_err(with_hint)?;
    let refuse = |subcommand: &str, kind, message: String| {
        let mut command = Arguments::command();
        command.build();
        let command = command.find_subcommand_mut(subcommand).cloned();
        command.unwrap_or_default().error(kind, message)
    };
    let missing = ErrorKind::MissingRequiredArgument;
    match &arguments.subcommand {
        Subcommand::Drain(_) if ends_with_dashes => {
            Err(refuse("drain", missing, NO_COMMAND.into()))
        }
        Subcommand::Record(_) if ends_with_dashes => {
            Err(refuse("record", missing, NO_COMMAND.into()))
        }
        Subcommand::Record(Record { target, .. }) if !target.names_something() => {
            Err(refuse("record", missing, NO_TARGET.into()))
        }
        Subcommand::Record(Record { selection, .. }) if selection.check().is_err() => {
            let message = selection.check().err().unwrap_or_default();
            Err(refuse("record", ErrorKind::ArgumentConflict, message))
        }
        Subcommand::Record(Record {
            on_demand: true,
            target,
            output,
            ..
        }) if target.mode == Some(ModeName::Discard) || output.as_os_str() == "-" => {
            let message = "--on-demand keeps the newest faults (--mode overwrite) and writes files";
            Err(refuse(
                "record",
                ErrorKind::ArgumentConflict,
                message.into(),
            ))
        }
        Subcommand::Record(Record { output, .. }) if FormatName::of_file(output).is_some() => {
            let message = format!(
                "record writes an Arrow stream, and {} is named as something else: name it FILE.arrows, then \
                 use export (for the raw faults as CSV: drain)",
                output.display()
            );
            Err(refuse("record", ErrorKind::ValueValidation, message))
        }
        Subcommand::Export(export) if export.format().is_none() => {
            let message = "name a format with -f, or an output whose name ends in one of \
                           .csv, .jsonl, .folded, .json, .perf, .parquet";
            Err(refuse("export", missing, message.into()))
        }
        _ => Ok(arguments),
    }
}

/// What is said where nothing is to be traced.
pub const NO_TARGET: &str =
    "name what to trace: a process with --pid N, all with --all, or a command after --";

const NO_COMMAND: &str = "there is no command after --";

/// Adds that a command stands after `--` to an error about a word that may be one.
fn with_hint(mut error: clap::Error) -> clap::Error {
    let word = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(word)) if error.kind() == ErrorKind::UnknownArgument => word,
        _ => return error,
    };
    let usage = error.get(ContextKind::Usage).map(ToString::to_string);
    let is_recording = usage.is_some_and(|usage| {
        ["record ", "drain "]
            .iter()
            .any(|name| usage.contains(name))
    });
    if is_recording && !word.starts_with('-') {
        let hint = format!("a command to trace stands after --, as in: -- {word}");
        let hint = ContextValue::StyledStrs(vec![StyledStr::from(hint)]);
        error.insert(ContextKind::Suggested, hint);
    }
    error
}

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub enum Subcommand {
    /// Trace a command or running processes, and write a trace file that explains each fault
    #[command(after_long_help = RECORD_MORE)]
    Record(Record),
    /// Prove that a trace has every fault of its threads, or say which are missing
    #[command(after_long_help = VERIFY_MORE)]
    Verify(Verify),
    /// Count and time the page faults of a command or of running processes, without a file
    #[command(after_long_help = stat::MORE)]
    Stat(stat::Arguments),
    /// Say what a trace shows: totals, what stands out, tables by any keys
    #[command(after_long_help = report::MORE)]
    Report(report::Arguments),
    /// Say what would save page faults, and how many; verify it by running a command
    #[command(after_long_help = advise::MORE)]
    Advise(advise::Arguments),
    /// Say what has changed between traces, and what is chance
    #[command(after_long_help = diff::MORE)]
    Diff(diff::Arguments),
    /// Watch who faults now
    #[command(after_long_help = top::MORE)]
    Top(top::Arguments),
    /// Watch the faults of now as a picture: time to the right, addresses upwards
    #[command(after_long_help = watch::MORE)]
    Watch(watch::Arguments),
    /// Have a recording with --on-demand write what it has
    #[command(after_long_help = snapshot::MORE)]
    Snapshot(snapshot::Arguments),
    /// Write a trace in the format of another program
    #[command(after_long_help = EXPORT_MORE)]
    Export(Export),
    /// Keep the files that a trace's symbols are in, to read it on another machine
    #[command(after_long_help = archive::MORE)]
    Archive(archive::Arguments),
    /// Draw the stacks of a recording with -g as a flame graph: who called the code that faults
    #[command(after_long_help = flamegraph::MORE)]
    Flamegraph(flamegraph::Arguments),
    /// Draw a trace: time to the right, addresses upwards
    #[command(after_long_help = plot::MORE)]
    Plot(plot::Plot),
    /// Trace a command or running processes, and write their page faults as CSV
    ///
    /// Without --pid and CMD it drains the session that the module's parameter pid=N has started, which
    /// goes on afterwards.
    #[command(after_long_help = DRAIN_MORE)]
    Drain(Drain),
    /// Say what the module is doing now
    ///
    /// Exit status: 0, or 1 if the module is not loaded or cannot be asked.
    Status,
    /// Write the manual pages and the completions of shells (make install does it)
    #[command(hide = true)]
    Generate(generate::Arguments),
}

/// What `drain` takes.
#[derive(Args, Debug)]
pub struct Drain {
    /// What is traced, and how.
    #[command(flatten)]
    pub target: TargetArgs,

    /// Write the CSV to FILE instead of standard output; needed with CMD
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Also write the command, the clock and the account, in lines that begin with #
    #[arg(long)]
    pub comments: bool,
}

/// What `record` takes.
#[derive(Args, Debug)]
pub struct Record {
    /// What is traced, and how.
    #[command(flatten)]
    pub target: TargetArgs,

    /// Write the trace to FILE; - is standard output. With --rotate: to the folder FILE [default: faults]
    #[arg(
        short,
        long,
        value_name = "FILE",
        default_value = "faults.arrows",
        default_value_if("rotate", clap::builder::ArgPredicate::IsPresent, "faults")
    )]
    pub output: PathBuf,

    /// End the recording after that time, in seconds or as 500ms, 5s, 2m, 1h
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub duration: Option<Duration>,

    /// The clock of the times
    #[arg(long, value_enum, default_value = "monotonic")]
    pub clock: ClockName,

    /// Also record how long each fault takes: a fault then costs some 820 instructions more than an untraced one
    /// instead of 180 (by the kprobe, 910 instead of 300); a read of a file 1,400 more, to see which pages come with it
    #[arg(long)]
    pub latency: bool,

    /// Also record who called: the user stack of each fault, by DWARF (on arm64, by frame pointers)
    #[arg(short = 'g', long = "stacks")]
    pub with_stacks: bool,

    /// As -g, by dwarf or dwarf,BYTES: copies of so much of each stack (8192), unwound by what the files say. Or by fp or
    /// fp,FRAMES: so many callers (127) to which the frame pointers lead, which costs less, but needs code that has them. Or
    /// by auto or auto,BYTES: the frames alone where the frame pointers lead to the outermost one, copies of the other stacks.
    /// arm64 has fp alone
    #[arg(long = "call-graph", value_name = "HOW", value_parser = values::stacks)]
    pub call_graph: Option<Stacks>,

    /// What sees the faults; a fault costs less by ftrace
    #[arg(long, value_enum, default_value = "auto")]
    pub hook: HookName,

    /// Which faults are recorded.
    #[command(flatten)]
    pub selection: SelectionArgs,

    /// Keep the newest faults in the rings, and write them when asked: by fault-tracer snapshot, by SIGUSR1, and when CMD or
    /// a process of --pid ends by a signal or with a status other than 0. Each time another file: FILE with the time in
    /// its name
    #[arg(long)]
    pub on_demand: bool,

    /// Write a Parquet file after each so long time, size of the trace, or both (10m, 1G or 10m,1G), and at midnight UTC: as
    /// FILE/host=.../date=.../*.parquet, which DuckDB, DataFusion and Spark read as one table
    #[arg(long, value_name = "WHEN", value_parser = values::rotation, conflicts_with = "on_demand")]
    pub rotate: Option<values::Rotation>,

    /// With --rotate: also keep the trace of each Parquet file, below FILE/_traces, for report, plot and the others
    #[arg(long, requires = "rotate")]
    pub keep_traces: bool,

    /// Keep the attempts of a fault apart: a row for each entry into handle_mm_fault
    #[arg(long)]
    pub attempts: bool,
}

impl Record {
    /// The stacks to record.
    pub fn stacks(&self) -> Stacks {
        let asked = match self.with_stacks {
            true => values::STACKS_DEFAULT,
            false => Stacks::None,
        };
        self.call_graph.unwrap_or(asked)
    }
}

/// What `verify` takes.
#[derive(Args, Debug)]
pub struct Verify {
    /// The trace that `fault-tracer record` has written; - is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// List each stretch of lost faults
    #[arg(long)]
    pub losses: bool,
}

/// What `export` takes.
#[derive(Args, Debug)]
pub struct Export {
    /// The trace that `fault-tracer record` has written; - is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// The format to write [default: that of FILE's name]
    #[arg(short, long, value_enum)]
    pub format: Option<FormatName>,

    /// Write to FILE instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// In csv, jsonl, parquet and arrow: all rows of the trace (threads, code, gaps, losses, the account), not the
    /// faults alone
    #[arg(long)]
    pub events: bool,

    /// In csv: also the command, the clock and the account, in lines that begin with #
    #[arg(long)]
    pub comments: bool,

    /// In csv, jsonl, parquet and arrow: where plot draws each fault, as columns: panel (0 is the highest), panel_offset
    /// (bytes above its bottom), panel_label
    #[arg(long)]
    pub bands: bool,

    /// In folded: what is counted of each stack
    #[arg(long, value_enum, default_value = "faults")]
    pub weight: WeightName,

    /// Look for symbols also in DIR, by build id (DIR/.build-id/xx/yyyy.debug) or path (DIR/usr/bin/...)
    #[arg(long = "debug-dir", value_name = "DIR")]
    pub debug_dirs: Vec<PathBuf>,
}

impl Export {
    /// The format to write, if it is named.
    pub fn format(&self) -> Option<FormatName> {
        let of_file = || FormatName::of_file(self.output.as_deref()?);
        self.format.or_else(of_file)
    }
}

/// What is counted of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WeightName {
    /// Faults
    Faults,
    /// The time in faults, in nanoseconds; of recordings with --latency
    Time,
    /// Different pages
    Pages,
}

impl From<WeightName> for Weight {
    fn from(name: WeightName) -> Self {
        match name {
            WeightName::Faults => Self::Faults,
            WeightName::Time => Self::Time,
            WeightName::Pages => Self::Pages,
        }
    }
}

/// A format's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FormatName {
    /// The faults, with the columns of drain and more behind them
    Csv,
    /// The faults, a JSON object on each line
    Jsonl,
    /// process;thread;mapping;symbol and a count, for flame graphs
    Folded,
    /// Chrome trace JSON, for ui.perfetto.dev: rates of all faults, the first 200,000 one by one
    Perfetto,
    /// The text of perf script: one event, page-faults; minor-fault or major-fault is the outermost frame
    PerfScript,
    /// The faults as Apache Parquet, for DuckDB and others
    Parquet,
    /// The faults as an Arrow IPC file (Feather), for pandas and polars
    Arrow,
}

impl FormatName {
    /// The format that files of such a name have.
    fn of_file(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        Some(match extension.as_str() {
            "csv" => Self::Csv,
            "jsonl" | "ndjson" => Self::Jsonl,
            "folded" => Self::Folded,
            "json" => Self::Perfetto,
            "perf" => Self::PerfScript,
            "parquet" => Self::Parquet,
            _ => return None,
        })
    }
}

impl From<FormatName> for Format {
    fn from(name: FormatName) -> Self {
        match name {
            FormatName::Csv => Self::Csv,
            FormatName::Jsonl => Self::Jsonl,
            FormatName::Folded => Self::Folded,
            FormatName::Perfetto => Self::Perfetto,
            FormatName::PerfScript => Self::PerfScript,
            FormatName::Parquet => Self::Parquet,
            FormatName::Arrow => Self::Arrow,
        }
    }
}

/// What is traced, and how.
#[derive(Args, Clone, Debug, Default)]
#[command(group = clap::ArgGroup::new("target")
    .args(["pids", "all", "command", "cgroups", "users", "executables", "names"])
    .multiple(true))]
#[command(group = clap::ArgGroup::new("chosen")
    .args(["all", "cgroups", "users", "executables", "names"])
    .multiple(true))]
pub struct TargetArgs {
    /// Trace this process with all its threads; several: --pid 1,2 or --pid 1 --pid 2
    #[arg(
        short,
        long = "pid",
        value_name = "N",
        value_delimiter = ',',
        num_args = 1..,
        allow_negative_numbers = true,
        value_parser = values::pid,
        conflicts_with_all = ["all", "command", "cgroups", "users", "executables", "names"],
    )]
    pub pids: Vec<i32>,

    /// Trace every process, those to come included; but not fault-tracer itself, nor kernel threads
    #[arg(short, long, conflicts_with_all = ["command", "cgroups", "users", "executables", "names"])]
    pub all: bool,

    /// Whom to trace by what they are.
    #[command(flatten)]
    pub choice: ChoiceArgs,

    /// Do not trace the children that a traced process forks
    #[arg(long, requires = "target", conflicts_with = "chosen")]
    pub no_follow: bool,

    /// What to lose when a ring is full [default: discard]
    #[arg(long, value_enum, requires = "target")]
    pub mode: Option<ModeName>,

    /// Ring for each CPU, a power of two from 4K, or a page, to 1G; a number alone is in KiB [default: 4M] [with stacks: up to 64M,
    /// by frame pointers 16M]
    #[arg(
        long = "ring-size",
        visible_alias = "ring-kib",
        value_name = "SIZE",
        value_parser = values::ring_kib,
        requires = "target"
    )]
    pub ring_kib: Option<u64>,

    /// Start CMD and trace it and its children; or, with options that choose processes, those while it runs
    #[arg(last = true, value_names = ["CMD", "ARGS"])]
    pub command: Vec<OsString>,
}

impl TargetArgs {
    /// Whether they name what to trace.
    pub fn names_something(&self) -> bool {
        !self.command.is_empty() || !self.pids.is_empty() || self.all || !self.choice.is_empty()
    }
}

/// What sees the faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HookName {
    /// What the variable FAULT_TRACER_HOOK names, else ftrace where the kernel has it, else the kprobe
    Auto,
    /// A kprobe
    Kprobe,
    /// An ftrace hook
    Ftrace,
}

/// A clock's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ClockName {
    /// CLOCK_MONOTONIC
    Monotonic,
    /// CLOCK_BOOTTIME, which goes on while the machine is suspended
    Boottime,
    /// CLOCK_MONOTONIC_RAW, which NTP does not adjust
    Raw,
}

impl From<ClockName> for Clock {
    fn from(name: ClockName) -> Self {
        match name {
            ClockName::Monotonic => Self::Monotonic,
            ClockName::Boottime => Self::Boottime,
            ClockName::Raw => Self::Raw,
        }
    }
}

/// A mode's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModeName {
    /// The new faults: what was recorded first is kept
    Discard,
    /// The oldest faults: what was recorded last is kept
    Overwrite,
}

impl From<ModeName> for Mode {
    fn from(name: ModeName) -> Self {
        match name {
            ModeName::Discard => Self::Discard,
            ModeName::Overwrite => Self::Overwrite,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::ffi::OsStringExt as _;

    fn parse(line: &str) -> Result<TargetArgs, clap::Error> {
        let words = ["fault-tracer", "drain"].into_iter();
        let arguments = Arguments::try_parse_from(words.chain(line.split_whitespace()))?;
        match arguments.subcommand {
            Subcommand::Drain(drain) => Ok(drain.target),
            _ => unreachable!(),
        }
    }

    fn refused(line: &str) -> (ErrorKind, String) {
        let error = parse(line).expect_err(line);
        (error.kind(), error.to_string())
    }

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_default_ring_is_the_one_that_the_help_names() {
        assert_eq!(
            values::ring_kib(&values::size(RING_KIB_DEFAULT)),
            Ok(RING_KIB_DEFAULT)
        );
        let help = Arguments::command()
            .find_subcommand_mut("drain")
            .unwrap()
            .render_help()
            .to_string();
        assert!(help.contains(&format!("[default: {}]", values::size(RING_KIB_DEFAULT))));
    }

    #[test]
    fn targets() {
        assert!(parse("").unwrap().pids.is_empty());
        assert_eq!(parse("--pid 1,2 --pid 3").unwrap().pids, [1, 2, 3]);
        let command = parse("--no-follow -o x -- ls -o --pid").unwrap();
        assert_eq!(command.command, ["ls", "-o", "--pid"]);
        assert!(command.no_follow && command.pids.is_empty());
        assert!(parse("-a --ring-kib 64").unwrap().all && !parse("-p 1").unwrap().all);
        let chosen = parse("--user a --name b --cgroup /c --except pid=1").unwrap();
        assert!(!chosen.choice.is_empty() && chosen.names_something() && !chosen.all);
        let during = parse("--name cc1 -- make").unwrap();
        assert_eq!((during.choice.names.len(), during.command.len()), (1, 1));
        assert!(parse("-a --except user=a").is_ok());
        for conflict in [
            "--pid 1 -- ls",
            "-a --pid 1",
            "-a -- ls",
            "-a --no-follow",
            "--pid 1 --user a",
            "-a --name b",
            "--exe c --no-follow",
        ] {
            assert_eq!(
                refused(conflict).0,
                ErrorKind::ArgumentConflict,
                "{conflict}"
            );
        }
        assert_eq!(refused("ls").0, ErrorKind::UnknownArgument);
        for alone in [
            "--except user=a",
            "--pid 1 --except user=a",
            "--except user=a -- ls",
        ] {
            assert_eq!(
                refused(alone).0,
                ErrorKind::MissingRequiredArgument,
                "{alone}"
            );
        }
    }

    #[test]
    fn what_to_record_and_for_how_long() {
        let parse = |line: &str| {
            let words = ["fault-tracer", "record"].into_iter();
            let arguments = Arguments::try_parse_from(words.chain(line.split_whitespace()))?;
            match arguments.subcommand {
                Subcommand::Record(record) => Ok::<_, clap::Error>(record),
                _ => unreachable!(),
            }
        };
        let record = parse("-p 7 --duration 0.5 --clock raw --latency").unwrap();
        assert!(record.latency && !parse("-p 7").unwrap().latency);
        assert_eq!(record.target.pids, [7]);
        assert_eq!(record.duration, Some(Duration::from_millis(500)));
        assert_eq!(record.clock, ClockName::Raw);
        assert_eq!(record.output.to_str(), Some("faults.arrows"));
        for duration in ["0", "-1", "x", "inf", "nan", "1e300"] {
            let error = parse(&format!("-p 7 --duration={duration}")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ValueValidation, "{duration}");
        }
    }

    #[test]
    fn bad_process_ids_are_named() {
        for pid in ["0", "-5", "abc", "1.5", "99999999999"] {
            let (kind, message) = refused(&format!("--pid {pid}"));
            assert_eq!(kind, ErrorKind::ValueValidation, "{message}");
            assert!(message.contains(pid), "{message}");
        }
    }

    /// The message for a command line that is refused.
    fn wrong(line: &str) -> String {
        let words = ["fault-tracer"].into_iter().chain(line.split_whitespace());
        let error = super::parse(words.map(OsString::from)).expect_err(line);
        assert_eq!(error.exit_code(), 2);
        error.to_string()
    }

    #[test]
    fn what_is_missing_is_named() {
        assert!(wrong("record").contains("a command after --"));
        assert!(wrong("record -o x --").contains("no command after --"));
        assert!(wrong("drain --").contains("no command after --"));
        for line in ["record ls", "drain ls -l", "record -o x make -j4"] {
            let text = wrong(line);
            let word = line
                .split_whitespace()
                .find(|word| ["ls", "make"].contains(word));
            let hint = format!("as in: -- {}", word.unwrap());
            assert!(text.contains(&hint), "{text}");
        }
        assert!(!wrong("verify a b").contains("as in: --"));
        assert!(!wrong("record --unknown").contains("as in: --"));
        assert!(wrong("export x").contains("name a format with -f"));
        assert!(wrong("export x -o y.txt").contains("name a format with -f"));
    }

    #[test]
    fn formats_are_those_of_the_names() {
        let format = |line: &str| {
            let words = ["fault-tracer", "export", "x"]
                .into_iter()
                .chain(line.split_whitespace());
            match super::parse(words.map(OsString::from)).unwrap().subcommand {
                Subcommand::Export(export) => export.format().unwrap(),
                _ => unreachable!(),
            }
        };
        assert_eq!(format("-o t.csv"), FormatName::Csv);
        assert_eq!(format("-o t.JSON"), FormatName::Perfetto);
        assert_eq!(format("-o t.parquet"), FormatName::Parquet);
        assert_eq!(format("-o t.csv -f folded"), FormatName::Folded);
        for name in ["x.csv", "x.parquet", "/tmp/x.json"] {
            let text = wrong(&format!("record -o {name} -p 1"));
            assert!(
                text.contains("FILE.arrows") && text.contains(name),
                "{text}"
            );
        }
    }

    #[test]
    fn quiet_is_for_all() {
        for line in [
            "-q status",
            "status -q",
            "record -p 1 --quiet",
            "verify -q x",
        ] {
            let words = ["fault-tracer"].into_iter().chain(line.split_whitespace());
            assert!(
                super::parse(words.map(OsString::from)).unwrap().quiet,
                "{line}"
            );
        }
    }

    #[test]
    fn settings_need_a_session_of_ones_own() {
        for setting in ["--mode discard", "--ring-kib 64", "--no-follow"] {
            assert_eq!(refused(setting).0, ErrorKind::MissingRequiredArgument);
            assert!(parse(&format!("{setting} --pid 1")).is_ok());
        }
    }

    #[test]
    fn sizes_of_rings() {
        for option in ["--ring-kib 4", "--ring-size 4", "--ring-size=4KiB"] {
            let target = parse(&format!("{option} --pid 1")).unwrap();
            assert_eq!(target.ring_kib, Some(4), "{option}");
        }
        for size in [
            "0",
            "2",
            "3",
            "100",
            "2097152",
            "-4",
            "4x",
            "99999999999999999999",
        ] {
            let (_, message) = refused(&format!("--pid 1 --ring-kib={size}"));
            assert!(message.contains(size), "{message}");
        }
    }

    /// A word of a command line: one that is known, a number, or any bytes.
    fn word() -> impl Strategy<Value = OsString> {
        let known = prop::sample::select(vec![
            "drain",
            "record",
            "verify",
            "export",
            "status",
            "stat",
            "report",
            "diff",
            "advise",
            "top",
            "--by",
            "kind,mapping",
            "--filter",
            "--json",
            "--pid",
            "--duration",
            "--ring-kib",
            "--mode",
            "overwrite",
            "--clock",
            "raw",
            "-a",
            "-o",
            "-f",
            "csv",
            "--",
            "-",
            "--pid=1,2",
            "--no-follow",
            "--user",
            "--name=x",
            "--except=pid=1",
        ]);
        prop_oneof![
            4 => known.prop_map(OsString::from),
            2 => any::<i64>().prop_map(|number| number.to_string().into()),
            1 => any::<f64>().prop_map(|number| format!("--duration={number:e}").into()),
            1 => (0..40u32).prop_map(|bits| format!("--ring-kib={}", 1u64 << bits).into()),
            1 => prop::collection::vec(any::<u8>(), 0..20).prop_map(OsString::from_vec),
        ]
    }

    proptest! {
        #[test]
        fn any_command_line_is_understood_or_refused(words in prop::collection::vec(word(), 0..8)) {
            let words = std::iter::once("fault-tracer".into()).chain(words);
            match Arguments::try_parse_from(words) {
                Err(error) => prop_assert!(!error.to_string().is_empty()),
                Ok(arguments) => {
                    let (target, duration) = match arguments.subcommand {
                        Subcommand::Drain(drain) => (drain.target, None),
                        Subcommand::Record(record) => (record.target, record.duration),
                        _ => return Ok(()),
                    };
                    prop_assert!(target.pids.iter().all(|&pid| pid > 0));
                    prop_assert!(target.ring_kib.is_none_or(|kib| (4..=1 << 20).contains(&kib)));
                    prop_assert!(duration.is_none_or(|time| !time.is_zero()));
                }
            }
        }
    }
}
