// SPDX-License-Identifier: GPL-2.0-only

//! `fault-tracer drain`: the faults as CSV, as the module records them.

use fault_tracer_client::Clock;
use fault_tracer_trace::csv::Preamble;

use crate::{
    args, recording,
    traced::{self, How},
};

/// Runs the subcommand; returns the exit status.
pub fn run(arguments: &args::Drain) -> anyhow::Result<u8> {
    let how = How {
        sideband: false,
        latency: false,
        clock: Clock::Monotonic,
        duration: None,
    };
    let output = arguments.output.as_deref();
    traced::run(&arguments.target, &how, output, |running, output| {
        let wall = how.clock.wall_offset();
        let preamble = Preamble {
            version: env!("CARGO_PKG_VERSION").into(),
            kernel: traced::kernel(),
            command: running.what.into(),
            clock: how.clock.name().into(),
            wall_offset_ns: wall.offset_ns,
            wall_error_ns: wall.error_ns,
        };
        let mut recording = recording::Recording::new(running.session, output, &preamble)?;
        running.follow(recording::PERIOD, |due| recording.round(due))?;
        recording.finish()
    })
}
