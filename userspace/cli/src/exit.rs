// SPDX-License-Identifier: GPL-2.0-only

//! What the exit statuses mean.

use std::{os::unix::process::ExitStatusExt as _, process::ExitStatus};

use crate::args::Subcommand;

/// The tool itself failed, and no command was to be run; or what was asked for is not so (a proof does not close).
pub const FAILED: u8 = 1;
/// Nothing can be proven.
pub const NOT_PROVEN: u8 = 3;
/// The tool itself failed where the status would otherwise be the command's.
pub const FAILED_WITH_COMMAND: u8 = 125;

/// The command was ended by a signal: this and its number.
pub const SIGNALLED: u8 = 128;

/// The status of a subcommand that fails.
pub fn of_failure(subcommand: &Subcommand) -> u8 {
    let target = match subcommand {
        Subcommand::Drain(drain) => Some(&drain.target),
        Subcommand::Record(record) => Some(&record.target),
        Subcommand::Stat(stat) => Some(&stat.target),
        Subcommand::Top(top) => Some(&top.showing.target),
        Subcommand::Watch(watch) => Some(&watch.showing.target),
        Subcommand::Advise(advise) if advise.verify => return FAILED_WITH_COMMAND,
        Subcommand::Advise(_)
        | Subcommand::Archive(_)
        | Subcommand::Diff(_)
        | Subcommand::Flamegraph(_)
        | Subcommand::Plot(_)
        | Subcommand::Report(_)
        | Subcommand::Snapshot(_)
        | Subcommand::Export(_)
        | Subcommand::Generate(_)
        | Subcommand::Verify(_)
        | Subcommand::Status => None,
    };
    if target.is_some_and(|target| !target.command.is_empty()) {
        FAILED_WITH_COMMAND
    } else {
        FAILED
    }
}

/// The exit status that a shell gives for a command's.
pub fn of_command(status: ExitStatus) -> u8 {
    // CAST: an exit status has eight bits, and there are 64 signals.
    match (status.code(), status.signal()) {
        (Some(code), _) => code as u8,
        (None, Some(signal)) => SIGNALLED + signal as u8,
        (None, None) => FAILED_WITH_COMMAND,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_statuses_are_those_of_a_shell() {
        assert_eq!(of_command(ExitStatus::from_raw(3 << 8)), 3);
        assert_eq!(of_command(ExitStatus::from_raw(9)), 137);
    }
}
