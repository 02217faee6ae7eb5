// SPDX-License-Identifier: GPL-2.0-only

//! `fault-tracer advise`: what would save faults; with `--verify`, whether it does.

use std::{ffi::OsString, io, path::PathBuf, time::Duration};

use anyhow::bail;
use clap::Args;
use fault_tracer_analysis::{
    advice::{advise, Advice, Rule},
    diff::Change,
    Analysis, Wanted,
};
use fault_tracer_client::{Clock, Stacks};
use fault_tracer_recorder::Consumer;
use fault_tracer_trace::{Metadata, Row};

mod apply;
mod measure;
mod traps;

pub use apply::settings;

use super::report::read;
use crate::{
    args::{HookName, TargetArgs},
    launch::{self, How, Launch},
    output, say,
    text::{self, style::Style},
};

/// What stands below the help.
pub const MORE: &str = "\
Each piece of advice says what the trace shows, how many faults it saves, what it costs in memory, and what to type. Time is \
predicted from traces of `record --latency` alone. Savings of several pieces overlap.

With --verify, CMD is recorded once. Then it runs N times as it is, and N times with each piece of advice that can be applied \
from outside: allocator settings in the environment, a library in front of mmap (LD_PRELOAD), and files that are read before \
the start. Of files, each run with them and each without begins with these files dropped from memory, as far as nobody else \
uses them; major faults are compared. Of files whose pages are mapped at once, faults of CMD's own instructions are compared \
(traps): mapping them counts as faults, too. Other faults are those that the kernel counts for CMD and the children that it \
waited for. A library that is tried is there in the runs without it, too, and does nothing. \
CMD must do the same each time.

Exit status: 0, also if there is no advice; 1 if the trace is damaged; with --verify 125 if it failed, else that of CMD if it \
is not 0.

Examples:
  fault-tracer advise faults.arrow
  fault-tracer advise faults.arrow --json
  fault-tracer advise --verify --runs 10 -- ./server --self-test";

/// How often rows are taken.
const PERIOD: Duration = Duration::from_millis(850);

/// What `advise` takes.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("subject").args(["file", "verify"]).required(true))]
pub struct Arguments {
    /// The trace that `fault-tracer record` has written; - is standard input
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// Record CMD, apply the advice, and measure what it saves
    #[arg(long, requires = "command")]
    pub verify: bool,

    /// Run CMD so many times as it is, and so many with each piece of advice
    #[arg(long, value_name = "N", default_value_t = 5, requires = "verify",
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub runs: u32,

    /// Write JSON, as docs/json.md describes it
    #[arg(long)]
    pub json: bool,

    /// The command to verify advice with
    #[arg(last = true, value_names = ["CMD", "ARGS"], requires = "verify")]
    pub command: Vec<OsString>,
}

/// What is counted to see what advice saves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Faults, as `getrusage` has them.
    Faults,
    /// Of these, the major ones.
    Major,
    /// Faults of the command's own instructions: what the kernel populates counts as faults, too, but traps nowhere.
    Traps,
}

impl Counted {
    /// What shows whether the advice of a rule helps.
    pub const fn of(rule: Rule) -> Self {
        match rule {
            Rule::Prefetch => Self::Major,
            Rule::PopulateFile => Self::Traps,
            _ => Self::Faults,
        }
    }

    /// Its name in files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Faults => "faults",
            Self::Major => "major",
            Self::Traps => "traps",
        }
    }
}

/// Advice that was tried.
#[derive(Clone, Debug)]
pub struct Verified {
    /// The rule.
    pub rule: Rule,
    /// Faults that were to be saved.
    pub predicted: u64,
    /// What was counted, of which these are.
    pub counted: Counted,
    /// Faults before and after.
    pub faults: Change,
    /// Wall time before and after, in nanoseconds.
    pub wall_ns: Change,
    /// CPU time before and after, in nanoseconds.
    pub cpu_ns: Change,
}

impl Verified {
    /// Faults that were saved.
    pub fn saved(&self) -> f64 {
        -self.faults.difference()
    }

    /// By how much the faults that are left differ from those that were predicted, as a part of those before.
    pub fn error(&self) -> f64 {
        (self.predicted as f64 - self.saved()).abs() / self.faults.before.mean.max(1.0)
    }
}

/// Runs the subcommand; returns the exit status.
pub fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    match &arguments.file {
        Some(file) => {
            let wanted = Wanted {
                regions: true,
                code: true,
                ..Wanted::default()
            };
            let read = read(file, &wanted, &[])?;
            let advice = advise(&read.report);
            let name = file.display().to_string();
            output::print(&if arguments.json {
                text::advise::json(&name, &advice, None)
            } else {
                text::advise::text(&advice, Style::of_stdout())
            })?;
            Ok(read.ended.close(file))
        }
        None => verify(arguments),
    }
}

/// Takes rows into an analysis.
struct Analysing(Analysis);

impl Consumer for Analysing {
    fn row(&mut self, row: &Row) -> io::Result<()> {
        self.0.add(row, &mut ());
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn verify(arguments: &Arguments) -> anyhow::Result<u8> {
    let (what, advice, status) = record(&arguments.command)?;
    if status != 0 {
        say(&format!(
            "{what} ended with status {status}: nothing is tried"
        ));
        return Ok(status);
    }
    let tried = measure::try_all(arguments, &advice)?;
    output::print(&if arguments.json {
        text::advise::json(&what, &advice, Some(&tried))
    } else {
        let style = Style::of_stdout();
        let mut text = text::advise::text(&advice, style);
        text += &text::advise::verified(&tried, arguments.runs, style);
        text
    })?;
    Ok(0)
}

/// Records a command; returns what it is, the advice on it and its exit status.
fn record(command: &[OsString]) -> anyhow::Result<(String, Vec<Advice>, u8)> {
    let how = How {
        sideband: true,
        latency: true,
        stacks: Stacks::None,
        hook: HookName::Auto,
        clock: Clock::Monotonic,
        duration: None,
        on_demand: false,
    };
    let target = TargetArgs {
        command: command.to_vec(),
        ..TargetArgs::default()
    };
    let mut live = Launch::set_up(&target, &how)?.start()?;
    let what = live.what().to_owned();
    let wanted = Wanted {
        regions: true,
        ..Wanted::default()
    };
    let metadata = Metadata {
        page_size: live.page_size(),
        ..Metadata::default()
    };
    let analysing = Analysing(Analysis::new(&wanted, &metadata));
    let observed = launch::observe(&mut live, &how, analysing, PERIOD, |_, _| Ok(true));
    match launch::account_of(observed) {
        Ok((analysing, account)) => {
            if account.lost() != 0 {
                say(&format!(
                    "{} faults were lost: the predictions are too low",
                    account.lost()
                ));
            }
            let advice = advise(&analysing.0.finish());
            Ok((what, advice, live.close(None)?))
        }
        Err(error) => {
            live.close(Some(error))?;
            bail!("{what} could not be recorded");
        }
    }
}
