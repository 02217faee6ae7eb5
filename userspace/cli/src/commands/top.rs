// SPDX-License-Identifier: GPL-2.0-only

//! `fault-tracer top`: who faults now.

use std::time::Duration;

use clap::Args;

use crate::{
    args,
    showing::Showing,
    top::{Counting, Top, View},
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

/// What `top` takes.
#[derive(Args, Debug)]
pub struct Arguments {
    /// What is traced, and where it is shown.
    #[command(flatten)]
    pub showing: Showing,

    /// Length of an interval, in seconds
    #[arg(short, long, value_name = "S", default_value = "1", value_parser = args::values::duration)]
    pub delay: Duration,

    /// Also show how long faults take, which costs each about twice as much as being recorded
    #[arg(long)]
    pub latency: bool,
}

/// Runs the subcommand; returns the exit status.
pub fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let instead = "fault-tracer stat runs a command";
    let how = (arguments.delay, arguments.latency);
    arguments.showing.run(how, instead, |what| Top {
        counting: Counting::default(),
        view: View {
            what,
            latency: arguments.latency,
            ..View::default()
        },
    })
}
