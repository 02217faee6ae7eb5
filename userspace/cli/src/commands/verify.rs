// SPDX-License-Identifier: GPL-2.0-only

//! `fault-tracer verify`: proves that a trace is complete, or says what it lacks.

use fault_tracer_analysis::{Outcome, Proof};

use crate::{
    args, exit, input, output,
    text::{self, progress::shown},
};

/// Runs the subcommand; returns the exit status.
pub fn run(arguments: &args::Verify) -> anyhow::Result<u8> {
    let rows = input::open(&arguments.file)?;
    let metadata = rows.metadata();
    let selection = metadata.selection.clone();
    let mut proof = Proof::new(metadata.account).with_selection(!selection.is_empty());
    let mut whole = true;
    for row in shown(rows, "checked", true) {
        match row {
            Ok(row) => proof.add(&row),
            Err(error) => {
                whole = false;
                input::report(&arguments.file, error);
            }
        }
    }
    let verdict = proof.close();
    let mut lines = text::verdict::lines(&verdict, &selection, arguments.losses).join("\n");
    lines.push('\n');
    output::print(&lines)?;
    Ok(match verdict.outcome() {
        _ if !whole => exit::FAILED,
        Outcome::Complete | Outcome::Selection => 0,
        Outcome::Incomplete => exit::FAILED,
        Outcome::NotProven => exit::NOT_PROVEN,
    })
}
