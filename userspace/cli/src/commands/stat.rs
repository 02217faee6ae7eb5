// SPDX-License-Identifier: GPL-2.0-only

//! `fault-tracer stat`: what faults cost a command, without a trace file.

use std::{io, path::PathBuf, time::Duration};

use anyhow::{bail, Context as _};
use clap::Args;
use fault_tracer_analysis::{fault_of, Overview};
use fault_tracer_client::{Clock, Stacks};
use fault_tracer_recorder::Consumer;
use fault_tracer_trace::{Account, Row};

use crate::{
    args::{self, HookName, TargetArgs},
    exit,
    launch::{self, How, Launch},
    output::{Former, Output},
    text::{self, style::Style},
};

/// What stands below the help.
pub const MORE: &str = "\
Each fault is timed, from its first entry into handle_mm_fault to its last return, which costs it about twice as much as \
being recorded. Wall and CPU time are those of CMD and of the children that it waited for.

With -r N, CMD runs N times; each number is the mean of the runs, with their standard deviation. A run that is ended by a \
signal is the last one.

The numbers go to standard error, as CMD has standard output for itself.

Exit status: that of CMD in its last run; else as for drain.

Examples:
  fault-tracer stat -- make -j4
  fault-tracer stat -r 5 -o stat.txt -- sort big.txt
  fault-tracer stat --pid 1234 --duration 10
  fault-tracer stat -a --duration 1 --json";

/// Most runs of a command.
const RUNS_MOST: u32 = 10_000;

/// How often rows are taken.
const PERIOD: Duration = Duration::from_millis(850);

/// What `stat` takes.
#[derive(Args, Debug)]
pub struct Arguments {
    /// What is traced, and how.
    #[command(flatten)]
    pub target: TargetArgs,

    /// Run CMD so many times
    #[arg(short, long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=RUNS_MOST as i64))]
    pub repeat: u32,

    /// Write the numbers to FILE instead of standard error; - is standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// End after so many seconds
    #[arg(long, value_name = "S", value_parser = args::values::duration)]
    pub duration: Option<Duration>,

    /// Write JSON, as docs/json.md describes it
    #[arg(long)]
    pub json: bool,
}

/// Time on processors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// In user space.
    pub user: Duration,
    /// In the kernel.
    pub system: Duration,
}

/// One run.
#[derive(Debug)]
pub struct Run {
    /// Its faults.
    pub overview: Overview,
    /// What the module counts.
    pub account: Account,
    /// How long the command ran, or the recording where there was none.
    pub wall: Duration,
    /// Of the command and the children that it waited for.
    pub cpu: Option<Cpu>,
}

/// Counts rows.
#[derive(Debug, Default)]
pub struct Counting {
    /// Of the faults.
    pub overview: Overview,
    start_ns: Option<u64>,
}

impl Consumer for Counting {
    fn row(&mut self, row: &Row) -> io::Result<()> {
        self.overview.row(row, self.start_ns);
        if let Some(fault) = fault_of(row) {
            let time_ns = fault.fault.time_ns;
            let start_ns = *self.start_ns.get_or_insert(time_ns);
            self.overview.add(fault, time_ns.saturating_sub(start_ns));
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What children cost.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Faults that the kernel counts for them.
    pub faults: u64,
    /// The major ones of them.
    pub major: u64,
    /// Their time on processors.
    pub cpu: Cpu,
}

/// What all children cost that were waited for.
pub fn children_usage() -> anyhow::Result<Usage> {
    // SAFETY: The call only fills in the structure, for which zeros are a value.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        if libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage) != 0 {
            return Err(io::Error::last_os_error()).context("CPU times cannot be had");
        }
        usage
    };
    let time = |time: libc::timeval| {
        // CAST: neither is negative.
        Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000)
    };
    Ok(Usage {
        // CAST: counters.
        faults: (usage.ru_minflt + usage.ru_majflt) as u64,
        major: usage.ru_majflt as u64,
        cpu: Cpu {
            user: time(usage.ru_utime),
            system: time(usage.ru_stime),
        },
    })
}

/// Runs the subcommand; returns the exit status.
pub fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    launch::require_target(&arguments.target)?;
    let commands = !arguments.target.command.is_empty();
    if arguments.repeat > 1 && !commands {
        bail!("-r repeats a command: name one after --");
    }
    let mut output = arguments
        .output
        .as_deref()
        .map(|path| Output::open(Some(path), Former::Replaced))
        .transpose()?;
    let mut runs = Vec::new();
    let mut what = String::new();
    let mut status = 0;
    for _ in 0..arguments.repeat {
        let (name, run, ended) = run_once(arguments)?;
        runs.push(run);
        what = name;
        status = ended;
        if status >= exit::SIGNALLED {
            break;
        }
    }
    let text = if arguments.json {
        text::stat::json(&what, &runs)
    } else {
        let style = match output {
            Some(_) => Style::default(),
            None => Style::of_stderr(),
        };
        text::stat::text(&what, &runs, style)
    };
    match &mut output {
        Some(output) => {
            let name = output.name();
            let write = |output: &mut Output| {
                output.begin()?;
                io::Write::write_all(output, text.as_bytes())
            };
            write(output).with_context(|| format!("{name} cannot be written"))?;
        }
        None => eprint!("{text}"),
    }
    Ok(status)
}

/// Runs once; returns what ran, its numbers and the exit status.
fn run_once(arguments: &Arguments) -> anyhow::Result<(String, Run, u8)> {
    let how = How {
        sideband: true,
        latency: true,
        stacks: Stacks::None,
        hook: HookName::Auto,
        clock: Clock::Monotonic,
        duration: arguments.duration,
        on_demand: false,
    };
    let before = children_usage()?.cpu;
    let mut live = Launch::set_up(&arguments.target, &how)?.start()?;
    let what = live.what().to_owned();
    let observed = launch::observe(&mut live, &how, Counting::default(), PERIOD, |_, _| {
        Ok(true)
    });
    let wall = live.took();
    let (counting, account) = match launch::account_of(observed) {
        Ok(counted) => counted,
        Err(error) => {
            // It says what is wrong where there is a command, whose end it waits for.
            live.close(Some(error))?;
            bail!("nothing was counted");
        }
    };
    let status = live.close(None)?;
    let after = children_usage()?.cpu;
    let cpu = (!arguments.target.command.is_empty()).then(|| Cpu {
        user: after.user.saturating_sub(before.user),
        system: after.system.saturating_sub(before.system),
    });
    let run = Run {
        overview: counting.overview,
        account,
        wall,
        cpu,
    };
    Ok((what, run, status))
}
