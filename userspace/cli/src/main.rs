// SPDX-License-Identifier: GPL-2.0-only

//! `fault-tracer`: records the page faults of programs.
//!
//! This file reads the command line and turns results into exit statuses; each subcommand has a file.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser as _;

mod args;
mod collector;
mod command;
mod drain;
mod durations;
mod events;
mod export;
mod format;
mod output;
mod record;
mod recording;
mod signals;
mod status;
mod summary;
mod tally;
mod traced;
mod verify;

use args::{Arguments, Subcommand};

/// The tool itself failed, and no command was to be run.
const FAILED: u8 = 1;
/// The tool itself failed where the status would otherwise be the command's.
const FAILED_WITH_COMMAND: u8 = 125;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let failed = match &arguments.subcommand {
        Subcommand::Drain(drain) if !drain.target.command.is_empty() => FAILED_WITH_COMMAND,
        Subcommand::Record(record) if !record.target.command.is_empty() => FAILED_WITH_COMMAND,
        _ => FAILED,
    };
    match run(&arguments) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            say(&format!("{error:#}"));
            let status = error
                .downcast_ref::<command::NotRun>()
                .map_or(failed, command::NotRun::status);
            ExitCode::from(status)
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    match &arguments.subcommand {
        Subcommand::Drain(arguments) => drain::run(arguments),
        Subcommand::Record(arguments) => record::run(arguments),
        Subcommand::Export(arguments) => export::run(arguments),
        Subcommand::Verify(arguments) => verify::run(arguments),
        Subcommand::Status => status::run(),
    }
}

/// Prints a message on standard error.
fn say(message: &str) {
    // There is nowhere left to tell of a failure.
    let _ = writeln!(io::stderr(), "fault-tracer: {message}");
}
