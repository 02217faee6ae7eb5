// SPDX-License-Identifier: GPL-2.0-only

//! `fault-tracer`: records the page faults of programs, and answers questions about them.
//!
//! | place | holds |
//! |---|---|
//! | `args` | the command line |
//! | `commands/` | what each subcommand does, one file each, from top to bottom |
//! | `launch/` | the way in of all recordings: what is traced, until when |
//! | `inherited` | what this program was started with, which a command gets as it was |
//! | `input`, `output` | traces that are read, files that are written |
//! | `next_step` | what to type where the device cannot be used |
//! | `text/` | what people read |
//! | `showing`, `screen` | what live views have in common: what is traced meanwhile, and the terminal |
//! | `top/`, `watch/` | the live views: who faults now, as a list and as a picture |
//! | `exit` | what the exit statuses mean |

use std::{
    io::{self, Write},
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
};

mod args;
mod commands;
mod exit;
mod inherited;
mod input;
mod launch;
mod next_step;
mod output;
mod screen;
mod showing;
mod text;
mod top;
mod watch;

fn main() -> ExitCode {
    let arguments = args::parse(std::env::args_os()).unwrap_or_else(|error| error.exit());
    QUIET.store(arguments.quiet, Ordering::Relaxed);
    inherited::survive_file_limits();
    let failed = exit::of_failure(&arguments.subcommand);
    match commands::run(&arguments.subcommand) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            say(&format!("{error:#}"));
            if let Some(step) = next_step::after(&error) {
                say(&step);
            }
            let status = error
                .downcast_ref::<launch::NotRun>()
                .map_or(failed, launch::NotRun::status);
            ExitCode::from(status)
        }
    }
}

/// Prints a message on standard error.
fn say(message: &str) {
    // There is nowhere left to tell of a failure.
    let _ = writeln!(io::stderr(), "fault-tracer: {message}");
}

/// Only errors are to be reported.
static QUIET: AtomicBool = AtomicBool::new(false);

/// Whether only errors are to be reported.
fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// Prints on standard error how something went, unless it is to be quiet.
fn note(message: &str) {
    if !is_quiet() {
        say(message);
    }
}
