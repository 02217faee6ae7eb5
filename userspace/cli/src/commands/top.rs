// SPDX-License-Identifier: GPL-2.0-only

//! `fault-tracer top`: who faults now.

use std::{
    io::{self, IsTerminal as _},
    time::{Duration, Instant},
};

use anyhow::bail;
use clap::Args;
use fault_tracer_client::{Clock, Stacks};

use crate::{
    args::{self, HookName, TargetArgs},
    launch::{self, How, Launch, Live},
    output,
    screen::{Asked, Screen},
    text,
    top::{screen, Counting, View},
};

/// What stands below the help.
pub const MORE: &str = "\
Without --pid, all processes are watched. Numbers are those of the last interval, in a second.

Keys: f, m and t sort by faults, major faults and time; p stands still; h explains; q ends.

With --batch, plain text is written for each interval, without end or -n times.

Exit status: 0; 1 if it failed.

Examples:
  fault-tracer top
  fault-tracer top -p 1234 --latency
  fault-tracer top --batch -n 3 -d 10";

/// Keys are waited for no longer than this.
const PERIOD: Duration = Duration::from_millis(100);

/// What `top` takes.
#[derive(Args, Debug)]
pub struct Arguments {
    /// What is traced, and how.
    #[command(flatten)]
    pub target: TargetArgs,

    /// Write plain text for each interval
    #[arg(short, long)]
    pub batch: bool,

    /// End after so many intervals
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub iterations: Option<u64>,

    /// Length of an interval, in seconds
    #[arg(short, long, value_name = "S", default_value = "1", value_parser = args::values::duration)]
    pub delay: Duration,

    /// Also show how long faults take, which costs each about twice as much as being recorded
    #[arg(long)]
    pub latency: bool,
}

/// Runs the subcommand; returns the exit status.
pub fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    if !arguments.target.command.is_empty() {
        bail!("top watches running processes: fault-tracer stat runs a command");
    }
    if !arguments.batch && !io::stdout().is_terminal() {
        bail!("standard output is no terminal: --batch writes plain text");
    }
    let target = TargetArgs {
        all: arguments.target.all || arguments.target.pids.is_empty(),
        ..arguments.target.clone()
    };
    let how = How {
        sideband: true,
        latency: arguments.latency,
        stacks: Stacks::None,
        hook: HookName::Auto,
        clock: Clock::Monotonic,
        duration: None,
    };
    let mut live = Launch::set_up(&target, &how)?.start()?;
    match watch(arguments, &how, &mut live) {
        Ok(()) => live.close(None),
        Err(error) => {
            live.close(None)?;
            Err(error)
        }
    }
}

fn watch(arguments: &Arguments, how: &How, live: &mut Live) -> anyhow::Result<()> {
    let mut view = View {
        what: live.what().to_owned(),
        latency: arguments.latency,
        ..View::default()
    };
    let mut screen = (!arguments.batch).then(Screen::take).transpose()?;
    let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut begin = Instant::now();
    let mut intervals = 0;
    let period = PERIOD.min(arguments.delay);
    let observed = launch::observe(
        live,
        how,
        Counting::default(),
        period,
        |counting, accounts| {
            let length = begin.elapsed();
            let ended = length >= arguments.delay;
            if ended {
                view.show(counting.take(length, accounts.all.lost()));
                begin = Instant::now();
                intervals += 1;
            }
            match &mut screen {
                None if ended => output::print(&text::top::batch(&view))?,
                None => {}
                Some(screen) => {
                    if screen.typed(|letter| view.typed(letter))? == Asked::End {
                        return Ok(false);
                    }
                    screen.draw(|frame| screen::draw(frame, &view, colour))?;
                }
            }
            Ok(arguments.iterations.is_none_or(|most| intervals < most))
        },
    );
    drop(screen);
    launch::account_of(observed).map(|_| ())
}
