// SPDX-License-Identifier: GPL-2.0-only

//! `fault-tracer report`: what a trace says, in totals and tables.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::{Args, ValueEnum};
use fault_tracer_analysis::{Analysis, Filter, Key, Order, Report, Wanted};
use fault_tracer_trace::{file::ReadError, Metadata};

use crate::{
    input, output,
    text::{self, style::Style},
};

/// What stands below the help.
pub const MORE: &str = "\
KEYs are process, pid, thread, tid, program, mapping, file, kind, fate, access, symbol, caller (who called that function; of \
recordings with -g), line, object, cpu, node (the NUMA node of the CPU), size (of the page that was mapped; of recordings \
with --latency) and time (seconds since the first fault, in steps of --step). Several in one --by make groups by all of them; several --by make several tables.

The filter's terms are KEY=VALUE[,VALUE…], KEY!=VALUE, KEY~PART, KEY!~PART and, for pid, tid, cpu, node, size, time, duration and \
address, KEY<NUMBER, <=, > and >=. All must hold. kind=major is fate=major. Times and sizes have units: duration>20us time<1.5s size=2M.

Time is there in traces of `record --latency` alone. Pages are different pages, those of different address spaces apart.

Exit status: 0, also for a trace that was cut off; 1 if it is damaged.

Examples:
  fault-tracer report faults.arrow
  fault-tracer report faults.arrow --by process,kind --sort time
  fault-tracer report faults.arrow --by symbol --filter 'kind=zero-fill mapping~heap'
  fault-tracer report faults.arrow --cold
  fault-tracer report faults.arrow --trends
  fault-tracer report faults.arrow --json | jq .totals";

/// What `report` takes.
#[derive(Args, Debug)]
pub struct Arguments {
    /// The trace that `fault-tracer record` has written; - is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Show a table of groups by these keys, instead of the usual ones
    #[arg(long, value_name = "KEY,…", value_parser = keys)]
    pub by: Vec<Keys>,

    /// What the tables are sorted by
    #[arg(long, value_enum, default_value = "faults")]
    pub sort: Sort,

    /// Take only the faults that match
    #[arg(long, value_name = "TERMS", value_parser = filter, default_value = "")]
    pub filter: Filter,

    /// Show so many rows of each table; 0 shows all
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub top: usize,

    /// Steps of --by time, in seconds
    #[arg(long, value_name = "S", default_value = "1", value_parser = step)]
    pub step: u64,

    /// Show which files were read from the disk, and for how long
    #[arg(long)]
    pub cold: bool,

    /// Show what memory was touched for the first time, and what again after it was given back
    #[arg(long)]
    pub refault: bool,

    /// Show the shapes that the faults have, over time, over programs and in memory
    #[arg(long)]
    pub trends: bool,

    /// Write JSON, as docs/json.md describes it
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,

    /// Write the groups of one --by as CSV
    #[arg(long, requires = "by", conflicts_with_all = ["cold", "refault", "trends"])]
    pub csv: bool,

    /// Look for symbols also in DIR, by build id (DIR/.build-id/xx/yyyy.debug) or path (DIR/usr/bin/...)
    #[arg(long = "debug-dir", value_name = "DIR")]
    pub debug_dirs: Vec<PathBuf>,
}

impl Arguments {
    /// Whether other sections are wanted than the usual ones.
    pub fn is_special(&self) -> bool {
        self.cold || self.refault || self.trends
    }
}

/// Keys of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys(pub Vec<Key>);

/// What tables are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// The number of faults
    Faults,
    /// The time in faults
    Time,
    /// The number of different pages
    Pages,
}

impl From<Sort> for Order {
    fn from(sort: Sort) -> Self {
        match sort {
            Sort::Faults => Self::Faults,
            Sort::Time => Self::Time,
            Sort::Pages => Self::Pages,
        }
    }
}

/// Reads the keys of a table.
pub fn keys(text: &str) -> Result<Keys, String> {
    let mut keys = Vec::new();
    for name in text.split(',') {
        let key = Key::from_name(name)
            .ok_or_else(|| format!("{name} is no key: the keys are {}", Key::names()))?;
        if keys.contains(&key) {
            return Err(format!("{name} stands there twice"));
        }
        keys.push(key);
    }
    Ok(Keys(keys))
}

/// Reads a filter.
pub fn filter(text: &str) -> Result<Filter, String> {
    Filter::parse(text).map_err(|error| error.to_string())
}

/// Reads a length of steps; returns nanoseconds.
fn step(text: &str) -> Result<u64, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    // CAST: it saturates.
    let step_ns = (seconds * 1e9).round() as u64;
    if step_ns == 0 {
        return Err("must be more than 0".into());
    }
    Ok(step_ns)
}

/// A trace that was read.
pub struct Read {
    /// What it says of itself.
    pub metadata: Metadata,
    /// What it comes to.
    pub report: Report,
    /// How reading it ended.
    pub ended: Ended,
}

/// How reading a trace ended.
pub struct Ended {
    error: Option<ReadError>,
    /// Why there are no symbols of some files.
    notes: Vec<String>,
}

impl Ended {
    /// As it should.
    #[cfg(test)]
    pub fn whole() -> Self {
        Self {
            error: None,
            notes: Vec::new(),
        }
    }

    /// Whether the trace was read to its end.
    pub fn is_whole(&self) -> bool {
        self.error.is_none()
    }

    /// Says what was not as it should be; returns the exit status.
    pub fn close(self, path: &Path) -> u8 {
        crate::commands::say_notes(&self.notes);
        self.error.map_or(0, |error| input::report(path, error))
    }
}

/// Reads a trace and computes what is wanted of it.
pub fn read(path: &Path, wanted: &Wanted, debug_dirs: &[PathBuf]) -> anyhow::Result<Read> {
    let rows = input::open(path)?;
    let metadata = rows.metadata().clone();
    let mut symbols = input::symbols(path, &metadata, debug_dirs);
    let mut analysis = Analysis::new(wanted, &metadata);
    let mut error = None;
    for row in rows {
        match row {
            Ok(row) => analysis.add(&row, &mut symbols),
            Err(end) => error = Some(end),
        }
    }
    Ok(Read {
        metadata,
        report: analysis.finish(),
        ended: Ended {
            error,
            notes: symbols.notes().to_vec(),
        },
    })
}

/// Runs the subcommand; returns the exit status.
pub fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    if arguments.csv && arguments.by.len() != 1 {
        bail!("--csv writes one table: give one --by");
    }
    let special = arguments.is_special();
    let mut groups: Vec<Vec<Key>> = arguments.by.iter().map(|keys| keys.0.clone()).collect();
    if groups.is_empty() && !special {
        groups = vec![vec![Key::Kind], vec![Key::Program], vec![Key::Mapping]];
    }
    let wanted = Wanted {
        filter: arguments.filter.clone(),
        groups,
        step_ns: arguments.step,
        // Whoever asks for tables gets these alone.
        regions: arguments.by.is_empty() || special || arguments.json,
        code: false,
    };
    let read = read(&arguments.file, &wanted, &arguments.debug_dirs)?;
    let text = if arguments.json {
        text::report_json::text(arguments, &read)
    } else if arguments.csv {
        text::report::csv(&read.report.groups[0], arguments.sort.into())
    } else {
        text::report::text(arguments, &read, Style::of_stdout())
    };
    output::print(&text)?;
    Ok(read.ended.close(&arguments.file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_or_refused() {
        assert_eq!(
            keys("process,kind"),
            Ok(Keys(vec![Key::Process, Key::Kind]))
        );
        assert!(keys("colour").unwrap_err().contains("the keys are process"));
        assert!(keys("kind,kind").unwrap_err().contains("twice"));
        assert!(keys("").is_err());
    }

    #[test]
    fn steps_are_more_than_nothing() {
        assert_eq!(step("0.5"), Ok(500_000_000));
        for bad in ["0", "-1", "x", "NaN"] {
            assert!(step(bad).is_err(), "{bad}");
        }
    }
}
