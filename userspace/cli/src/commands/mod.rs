// SPDX-License-Identifier: GPL-2.0-only

//! The subcommands, one file each. Each returns the exit status.

use crate::{args::Subcommand, note, text::numbers::counted};

pub mod advise;
pub mod archive;
pub mod diff;
mod drain;
mod export;
pub mod flamegraph;
pub mod generate;
pub mod plot;
mod record;
pub mod report;
pub mod snapshot;
pub mod stat;
mod status;
pub mod top;
mod verify;
pub mod watch;

/// Runs a subcommand; returns the exit status.
pub fn run(subcommand: &Subcommand) -> anyhow::Result<u8> {
    match subcommand {
        Subcommand::Drain(arguments) => drain::run(arguments),
        Subcommand::Record(arguments) => record::run(arguments),
        Subcommand::Snapshot(arguments) => snapshot::run(arguments),
        Subcommand::Stat(arguments) => stat::run(arguments),
        Subcommand::Report(arguments) => report::run(arguments),
        Subcommand::Advise(arguments) => advise::run(arguments),
        Subcommand::Diff(arguments) => diff::run(arguments),
        Subcommand::Top(arguments) => top::run(arguments),
        Subcommand::Watch(arguments) => watch::run(arguments),
        Subcommand::Plot(arguments) => plot::run(arguments),
        Subcommand::Flamegraph(arguments) => flamegraph::run(arguments),
        Subcommand::Export(arguments) => export::run(arguments),
        Subcommand::Archive(arguments) => archive::run(arguments),
        Subcommand::Verify(arguments) => verify::run(arguments),
        Subcommand::Status => status::run(),
        Subcommand::Generate(arguments) => generate::run(arguments),
    }
}

/// More files without symbols than this are only counted.
const NOTES_MOST: usize = 10;

/// Says of which files there are no symbols.
fn say_notes(notes: &[String]) {
    for line in notes.iter().take(NOTES_MOST) {
        note(line);
    }
    if let Some(more @ 1..) = notes.len().checked_sub(NOTES_MOST) {
        note(&format!(
            "no symbols of {} either",
            counted(more as u64, "more file", "more files")
        ));
    }
}
