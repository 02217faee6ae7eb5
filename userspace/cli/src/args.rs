// SPDX-License-Identifier: GPL-2.0-only

//! The command line.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args, Parser, ValueEnum};
use fault_tracer_client::{uapi, Clock, Mode};
use fault_tracer_trace::export::Format;

/// Ring of a session that is not asked for another, in KiB per CPU.
pub const RING_KIB_DEFAULT: u64 = 4096;

const EXAMPLES: &str = "\
Examples:
  fault-tracer record -- make -j4               trace a command from its first instruction on
  fault-tracer record --pid 1234                trace a running process and its future children
  fault-tracer record -a --duration 10          trace every process for ten seconds
  fault-tracer verify faults.arrow              prove that no fault is missing
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

The recording ends when all targets have ended (followed children too), or at Ctrl-C or SIGTERM; \
what was recorded until then is written. SIGTERM is passed on to CMD. CMD is never killed: if it \
still runs, its end is awaited, and a further signal leaves it running.

Exit status: that of CMD (128 + N if it was ended by signal N), 126 if it cannot be executed, 127 if \
it is not found, 125 if the recording itself failed. Without CMD: 0, or 1 if it failed. 2 if the \
command line is wrong.

Examples:
  fault-tracer drain -o faults.csv -- make -j4
  fault-tracer drain --mode overwrite --ring-kib 65536 --pid 1234 -o last.csv
  fault-tracer drain --pid 1234 | grep ,w,";

const RECORD_MORE: &str = "\
FILE is an Arrow IPC stream, which pyarrow, polars, pandas and others read: a row for each fault with \
its mapping, file offset, process, thread, kind (zero-fill, copy-on-write, swap-in, ...) and fate \
(minor, major, retried, failed), and rows for the threads' beginnings and ends. It is readable while \
it is being written, and up to the last second if the recording is killed.

The recording ends when all targets have ended (followed children too), after --duration, or at Ctrl-C \
or SIGTERM. With --all only at the latter. SIGTERM is passed on to CMD. CMD is never killed: if it still runs, its end is awaited, and \
a further signal leaves it running.

Exit status: as for drain.

Examples:
  fault-tracer record -- make -j4
  fault-tracer record --pid 1234 --duration 10 -o faults.arrow
  fault-tracer record --latency -- make -j4
  python3 -c 'import polars; print(polars.read_ipc_stream(\"faults.arrow\"))'";

const EXPORT_MORE: &str = "\
A trace that is damaged or cut off is exported as far as it can be read.

Symbols come from the files that the code was in, as long as they are the same (by build id): their debug \
files are looked for in each --debug-dir and in /usr/lib/debug, then the files themselves are taken. Of a \
file that was replaced since, and whose debug file is not found, there are none, and a note says so.

Exit status: 0, also for a trace that was cut off; 1 if it is damaged or FILE cannot be written.

Examples:
  fault-tracer export faults.arrow -f csv -o faults.csv
  fault-tracer export faults.arrow -f folded | inferno-flamegraph > faults.svg
  fault-tracer export faults.arrow -f perfetto -o faults.json
  fault-tracer export faults.arrow -f parquet -o faults.parquet";

const VERIFY_MORE: &str = "\
For each thread whose beginning and end are in the trace, the faults found in it must be as many as its \
own counters rose by in the kernel. Threads that still ran are checked up to the end of the recording.

Exit status: 0 if nothing is missing, 1 if something is or if the trace cannot be read to its end.";

/// Records the page faults of programs: where, when and by which access.
#[derive(Debug, Parser)]
#[command(name = "fault-tracer", version, after_help = EXAMPLES, max_term_width = 100)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub subcommand: Subcommand,
}

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub enum Subcommand {
    /// Trace a command or running processes, and write their page faults as CSV
    ///
    /// Without --pid and CMD it drains the session that the module's parameter pid=N has started, which
    /// goes on afterwards.
    #[command(after_long_help = DRAIN_MORE)]
    Drain(Drain),
    /// Trace a command or running processes, and write a trace file that explains each fault
    #[command(after_long_help = RECORD_MORE)]
    Record(Record),
    /// Prove that a trace has every fault of its threads, or say which are missing
    #[command(after_long_help = VERIFY_MORE)]
    Verify(Verify),
    /// Write a trace in the format of another program
    #[command(after_long_help = EXPORT_MORE)]
    Export(Export),
    /// Say what the module is doing now
    ///
    /// Exit status: 0, or 1 if the module is not loaded or cannot be asked.
    Status,
}

/// What `drain` takes.
#[derive(Args, Debug)]
pub struct Drain {
    /// What is traced, and how.
    #[command(flatten)]
    pub target: Target,

    /// Write the CSV to FILE instead of standard output, which CMD would share
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// What `record` takes.
#[derive(Args, Debug)]
pub struct Record {
    /// What is traced, and how.
    #[command(flatten)]
    pub target: Target,

    /// Write the trace to FILE; - is standard output
    #[arg(short, long, value_name = "FILE", default_value = "faults.arrow")]
    pub output: PathBuf,

    /// End the recording after so many seconds
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub duration: Option<Duration>,

    /// The clock of the times
    #[arg(long, value_enum, default_value = "monotonic")]
    pub clock: ClockName,

    /// Also record how long each fault takes, which costs it about twice as much as being recorded
    #[arg(long)]
    pub latency: bool,
}

/// What `verify` takes.
#[derive(Args, Debug)]
pub struct Verify {
    /// The trace that `fault-tracer record` has written; - is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// What `export` takes.
#[derive(Args, Debug)]
pub struct Export {
    /// The trace that `fault-tracer record` has written; - is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// The format to write
    #[arg(short, long, value_enum)]
    pub format: FormatName,

    /// Write to FILE instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Look for symbols also in DIR, by build id (DIR/.build-id/xx/yyyy.debug) or path (DIR/usr/bin/...)
    #[arg(long = "debug-dir", value_name = "DIR")]
    pub debug_dirs: Vec<PathBuf>,
}

/// A format's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FormatName {
    /// The faults, with the columns of drain and more behind them
    Csv,
    /// All rows, a JSON object on each line
    Jsonl,
    /// process;thread;mapping;symbol and a count, for flame graphs
    Folded,
    /// Chrome trace JSON, for ui.perfetto.dev: rates of all faults, the first 200,000 one by one
    Perfetto,
    /// The text of perf script: events minor-faults, major-faults, and page-faults for what is neither
    PerfScript,
    /// All rows as Apache Parquet, for DuckDB and others
    Parquet,
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
        }
    }
}

/// What is traced, and how.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("target").args(["pids", "all", "command"]))]
pub struct Target {
    /// Trace this process with all its threads; several: --pid 1,2 or --pid 1 --pid 2
    #[arg(
        short,
        long = "pid",
        value_name = "N",
        value_delimiter = ',',
        num_args = 1..,
        allow_negative_numbers = true,
        value_parser = clap::value_parser!(i32).range(1..),
    )]
    pub pids: Vec<i32>,

    /// Trace every process, those to come included; but not fault-tracer itself, nor kernel threads
    #[arg(short, long)]
    pub all: bool,

    /// Do not trace the children that a traced process forks
    #[arg(long, requires = "target", conflicts_with = "all")]
    pub no_follow: bool,

    /// What to lose when a ring is full [default: discard]
    #[arg(long, value_enum, requires = "target")]
    pub mode: Option<ModeName>,

    /// Ring for each CPU in KiB, a power of two from 4 to 1048576 [default: 4096]
    #[arg(long, value_name = "K", value_parser = ring_kib, requires = "target")]
    pub ring_kib: Option<u64>,

    /// Start CMD and trace it and its children
    #[arg(last = true, value_names = ["CMD", "ARGS"])]
    pub command: Vec<OsString>,
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

/// Reads a size of rings.
fn ring_kib(text: &str) -> Result<u64, String> {
    const LEAST: u64 = uapi::RING_BYTES_MIN / 1024;
    const MOST: u64 = uapi::RING_BYTES_MAX / 1024;
    let kib: u64 = text.parse().map_err(|error| format!("{error}"))?;
    if !kib.is_power_of_two() || !(LEAST..=MOST).contains(&kib) {
        return Err(format!("must be a power of two from {LEAST} to {MOST}"));
    }
    Ok(kib)
}

/// Reads a time.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(time) if !time.is_zero() => Ok(time),
        Ok(_) => Err("must be more than 0".into()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{error::ErrorKind, CommandFactory as _};
    use proptest::prelude::*;
    use std::os::unix::ffi::OsStringExt as _;

    fn parse(line: &str) -> Result<Target, clap::Error> {
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
            ring_kib(&RING_KIB_DEFAULT.to_string()),
            Ok(RING_KIB_DEFAULT)
        );
        let help = Arguments::command()
            .find_subcommand_mut("drain")
            .unwrap()
            .render_help()
            .to_string();
        assert!(help.contains(&format!("[default: {RING_KIB_DEFAULT}]")));
    }

    #[test]
    fn targets() {
        assert!(parse("").unwrap().pids.is_empty());
        assert_eq!(parse("--pid 1,2 --pid 3").unwrap().pids, [1, 2, 3]);
        let command = parse("--no-follow -o x -- ls -o --pid").unwrap();
        assert_eq!(command.command, ["ls", "-o", "--pid"]);
        assert!(command.no_follow && command.pids.is_empty());
        assert!(parse("-a --ring-kib 64").unwrap().all && !parse("-p 1").unwrap().all);
        for conflict in ["--pid 1 -- ls", "-a --pid 1", "-a -- ls", "-a --no-follow"] {
            assert_eq!(
                refused(conflict).0,
                ErrorKind::ArgumentConflict,
                "{conflict}"
            );
        }
        assert_eq!(refused("ls").0, ErrorKind::UnknownArgument);
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
        assert_eq!(record.output.to_str(), Some("faults.arrow"));
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

    #[test]
    fn settings_need_a_session_of_ones_own() {
        for setting in ["--mode discard", "--ring-kib 64", "--no-follow"] {
            assert_eq!(refused(setting).0, ErrorKind::MissingRequiredArgument);
            assert!(parse(&format!("{setting} --pid 1")).is_ok());
        }
    }

    #[test]
    fn sizes_of_rings() {
        assert_eq!(parse("--ring-kib 4 --pid 1").unwrap().ring_kib, Some(4));
        for size in [
            "0",
            "2",
            "3",
            "100",
            "2097152",
            "-4",
            "4k",
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
