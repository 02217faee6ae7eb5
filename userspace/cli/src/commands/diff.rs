// SPDX-License-Identifier: GPL-2.0-only

//! `fault-tracer diff`: what has changed between traces, and what is chance.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use fault_tracer_analysis::{
    diff::{Change, Measure, Side},
    Filter, Key, Report, Wanted,
};

use super::report::{filter, keys, read, Keys, Read, Sort};
use crate::{
    output,
    text::{self, style::Style},
};

/// What stands below the help.
pub const MORE: &str = "\
Two files are compared, or several runs a side: the files before -- are one side, those behind it the other, and options stand before it. Groups are matched \
by their names: paths of programs and mappings, symbols, kinds.

With two runs or more a side, a difference is called a change where chance would make it in less than one of a hundred \
comparisons (Welch's test). With one run a side nothing is known of chance, and a mark says so.

Exit status: 0, also for traces that were cut off; 1 if one is damaged.

Examples:
  fault-tracer diff before.arrow after.arrow
  fault-tracer diff cold-*.arrow -- warm-*.arrow
  fault-tracer diff before.arrow after.arrow --by symbol --sort time";

/// What `diff` takes.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Two traces; or, with --, the traces of one side
    #[arg(value_name = "A", required = true)]
    pub before: Vec<PathBuf>,

    /// The traces of the other side
    #[arg(value_name = "B", last = true)]
    pub after: Vec<PathBuf>,

    /// Match groups by these keys, instead of the usual ones
    #[arg(long, value_name = "KEY,…", value_parser = keys)]
    pub by: Vec<Keys>,

    /// The number whose largest changes come first
    #[arg(long, value_enum, default_value = "faults")]
    pub sort: Sort,

    /// Take only the faults that match
    #[arg(long, value_name = "TERMS", value_parser = filter, default_value = "")]
    pub filter: Filter,

    /// Show so many rows of each table; 0 shows all
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub top: usize,

    /// Write JSON, as docs/json.md describes it
    #[arg(long)]
    pub json: bool,

    /// Look for symbols also in DIR, by build id (DIR/.build-id/xx/yyyy.debug) or path (DIR/usr/bin/...)
    #[arg(long = "debug-dir", value_name = "DIR")]
    pub debug_dirs: Vec<PathBuf>,
}

impl From<Sort> for Measure {
    fn from(sort: Sort) -> Self {
        match sort {
            Sort::Faults => Self::Faults,
            Sort::Time => Self::Time,
            Sort::Pages => Self::Pages,
        }
    }
}

/// Both sides, run by run.
#[derive(Debug)]
pub struct Sides {
    /// One side.
    pub before: Vec<Report>,
    /// The other.
    pub after: Vec<Report>,
}

impl Sides {
    /// A number of each run.
    pub fn change(&self, number: impl Fn(&Report) -> u64) -> Change {
        let side = |runs: &[Report]| Side::of(&runs.iter().map(&number).collect::<Vec<_>>());
        Change {
            before: side(&self.before),
            after: side(&self.after),
        }
    }
}

/// Runs the subcommand; returns the exit status.
pub fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let (before, after) = match (arguments.before.as_slice(), arguments.after.as_slice()) {
        ([before, after], []) => (std::slice::from_ref(before), std::slice::from_ref(after)),
        (_, []) => bail!("name two traces, or several on each side of --: A1 A2 -- B1 B2"),
        sides => sides,
    };
    let mut groups: Vec<Vec<Key>> = arguments.by.iter().map(|keys| keys.0.clone()).collect();
    if groups.is_empty() {
        let usual = [Key::Kind, Key::Program, Key::Mapping, Key::Symbol];
        groups = usual.map(|key| vec![key]).to_vec();
    }
    let wanted = Wanted {
        filter: arguments.filter.clone(),
        groups,
        step_ns: 1_000_000_000,
        regions: false,
        code: false,
    };
    let mut status = 0;
    let mut side = |paths: &[PathBuf]| -> anyhow::Result<Vec<Report>> {
        let mut reports = Vec::new();
        for path in paths {
            let Read { report, ended, .. } = read(path, &wanted, &arguments.debug_dirs)?;
            reports.push(report);
            status = status.max(ended.close(path));
        }
        Ok(reports)
    };
    let sides = Sides {
        before: side(before)?,
        after: side(after)?,
    };
    output::print(&if arguments.json {
        text::diff::json(arguments, &sides)
    } else {
        text::diff::text(arguments, &sides, Style::of_stdout())
    })?;
    Ok(status)
}
