// SPDX-License-Identifier: GPL-2.0-only

//! `fault-tracer watch`: the picture of `plot`, as it grows.

use std::time::Duration;

use clap::Args;

use crate::{
    args,
    showing::Showing,
    watch::{Recent, View, Watch},
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

/// What `watch` takes.
#[derive(Args, Debug)]
pub struct Arguments {
    /// What is traced, and where it is shown.
    #[command(flatten)]
    pub showing: Showing,

    /// How much time is shown
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = args::values::duration)]
    pub last: Duration,

    /// How often it is drawn, in seconds
    #[arg(short, long, value_name = "S", default_value = "0.5", value_parser = args::values::duration)]
    pub delay: Duration,
}

/// Runs the subcommand; returns the exit status.
pub fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let instead = "start the command elsewhere, and name it with --pid";
    let how = (arguments.delay, false);
    arguments.showing.run(how, instead, |what| Watch {
        recent: Recent::default(),
        view: View::new(what, arguments.last),
    })
}
