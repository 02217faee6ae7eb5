// SPDX-License-Identifier: GPL-2.0-only

//! `fault-tracer watch`: the picture of `plot`, as it grows.

use std::{
    io::{self, IsTerminal as _},
    time::{Duration, Instant},
};

use anyhow::bail;
use clap::Args;
use fault_tracer_client::{Clock, Stacks};
use rustix::time::{clock_gettime, ClockId};

use crate::{
    args::{self, HookName, TargetArgs},
    launch::{self, How, Launch, Live},
    output,
    screen::{Asked, Screen},
    watch::{screen, Recent, View},
};

/// What stands below the help.
pub const MORE: &str = "\
Without --pid, all processes are watched. Time goes to the right, addresses go upwards; each region of memory has \
lines of its own. Nothing is written: fault-tracer record does that, at the same time if need be.

Keys: + and - show less and more time; p stands still; h explains; q ends.

With --batch, the picture is written as plain text for each interval, without end or -n times.

Exit status: 0; 1 if it failed.

Examples:
  fault-tracer watch
  fault-tracer watch -p 1234 --last 10s
  fault-tracer watch --batch -n 3 -d 10";

/// Keys are waited for no longer than this.
const PERIOD: Duration = Duration::from_millis(100);
/// Of what is no terminal.
const PLAIN: (u16, u16) = (100, 30);

/// What `watch` takes.
#[derive(Args, Debug)]
pub struct Arguments {
    /// What is traced, and how.
    #[command(flatten)]
    pub target: TargetArgs,

    /// How much time is shown
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = args::values::duration)]
    pub last: Duration,

    /// Write plain text for each interval
    #[arg(short, long)]
    pub batch: bool,

    /// End after so many intervals
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub iterations: Option<u64>,

    /// How often it is drawn, in seconds
    #[arg(short, long, value_name = "S", default_value = "0.5", value_parser = args::values::duration)]
    pub delay: Duration,
}

/// Runs the subcommand; returns the exit status.
pub fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    if !arguments.target.command.is_empty() {
        bail!("watch shows running processes: start the command elsewhere, and name it with --pid");
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
        latency: false,
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
    let mut view = View::new(live.what().to_owned(), arguments.last);
    let mut screen = (!arguments.batch).then(Screen::take).transpose()?;
    let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut begin = Instant::now();
    let mut intervals = 0;
    let period = PERIOD.min(arguments.delay);
    let observed = launch::observe(live, how, Recent::default(), period, |recent, accounts| {
        let ended = begin.elapsed() >= arguments.delay;
        let (width, height) = match &screen {
            Some(screen) => screen.size()?,
            None => PLAIN,
        };
        if ended {
            let room = screen::room(width, height);
            view.show(recent, now_ns(), accounts.all.lost(), room);
            begin = Instant::now();
            intervals += 1;
        }
        match &mut screen {
            None if ended => output::print(&view.text())?,
            None => {}
            Some(screen) => {
                if screen.typed(|letter| view.typed(letter))? == Asked::End {
                    return Ok(false);
                }
                screen.draw(|frame| screen::draw(frame, &view, colour))?;
            }
        }
        Ok(arguments.iterations.is_none_or(|most| intervals < most))
    });
    drop(screen);
    launch::account_of(observed).map(|_| ())
}

/// Now, on the recording's clock.
fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // CAST: it begins with the machine, and is not negative.
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
