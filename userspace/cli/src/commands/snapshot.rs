// SPDX-License-Identifier: GPL-2.0-only

//! `fault-tracer snapshot`: has a recording with `--on-demand` write what it has.

use anyhow::bail;
use clap::Args;

use crate::{launch, output};

/// The end of the help.
pub const MORE: &str = "\
The recording goes on. The path of each file that was written is printed.

Exit status: 0, or 1 if there is no such recording, or if one could not write its file.

Examples:
  fault-tracer record -a --on-demand --ring-size 64M -o /var/tmp/faults.arrows &
  fault-tracer snapshot";

/// What `snapshot` takes.
#[derive(Args, Debug)]
pub struct Arguments {
    /// The process id of the recording [default: each that there is]
    #[arg(value_name = "PID")]
    pub recording: Option<u32>,
}

/// Runs the subcommand; returns the exit status.
pub fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let recordings = match arguments.recording {
        Some(pid) => vec![pid],
        None => launch::recordings()?,
    };
    if recordings.is_empty() {
        bail!("no recording with --on-demand is running: start one with fault-tracer record --on-demand");
    }
    for pid in recordings {
        let path = launch::ask(pid)?;
        output::print(&format!("{path}\n"))?;
    }
    Ok(0)
}
