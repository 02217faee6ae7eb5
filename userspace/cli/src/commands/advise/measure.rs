// SPDX-License-Identifier: GPL-2.0-only

//! What a command costs as it is, and with advice.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{bail, Context as _};
use fault_tracer_analysis::{
    advice::{Advice, Rule},
    diff::{Change, Side},
};

use super::{apply::Trial, traps::Traps, Arguments, Counted, Verified};
use crate::{commands::stat::children_usage, exit};

/// Tries what can be applied from outside, each rule by itself.
///
/// # Errors
///
/// If the command cannot be run, or fails in a run.
pub fn try_all(arguments: &Arguments, advice: &[Advice]) -> anyhow::Result<Vec<Verified>> {
    let mut rules: Vec<Rule> = advice.iter().map(|advice| advice.rule).collect();
    rules.sort_by_key(|rule| rule.name());
    rules.dedup();
    let mut tried = Vec::new();
    // As it is, with all files where they are.
    let mut as_it_is = None;
    for rule in rules {
        let of_rule: Vec<_> = advice.iter().filter(|advice| advice.rule == rule).collect();
        let Some(trial) = Trial::of(rule, &of_rule) else {
            continue;
        };
        let counted = Counted::of(rule);
        let without = trial.without();
        let is_usual = counted == Counted::Faults && without.environment.is_empty();
        let before = match &as_it_is {
            Some(before) if is_usual => Vec::clone(before),
            _ => measure(arguments, &without, counted)?,
        };
        if is_usual {
            as_it_is = Some(before.clone());
        }
        let after = measure(arguments, &trial, counted)?;
        tried.push(Verified {
            rule,
            predicted: of_rule.iter().map(|advice| advice.saving).sum(),
            counted,
            faults: change(&before, &after, |run| run.counted),
            wall_ns: change(&before, &after, |run| run.wall_ns),
            cpu_ns: change(&before, &after, |run| run.cpu_ns),
        });
    }
    Ok(tried)
}

/// What a run cost.
#[derive(Clone, Copy, Debug)]
struct Cost {
    counted: u64,
    wall_ns: u64,
    cpu_ns: u64,
}

fn measure(arguments: &Arguments, trial: &Trial, counted: Counted) -> anyhow::Result<Vec<Cost>> {
    (0..arguments.runs)
        .map(|_| {
            trial
                .prepare()
                .context("a file that is to be read before cannot be read")?;
            let traps = match counted {
                Counted::Traps => Some(Traps::of_next_command()?),
                Counted::Faults | Counted::Major => None,
            };
            let before = children_usage()?;
            let begin = Instant::now();
            let status = Command::new(&arguments.command[0])
                .args(&arguments.command[1..])
                .envs(trial.environment.iter().map(|(name, value)| (name, value)))
                .status()
                .with_context(|| {
                    format!("{} cannot be run", arguments.command[0].to_string_lossy())
                })?;
            let wall = begin.elapsed();
            if !status.success() {
                bail!(
                    "the command ended with status {} in a run to measure",
                    exit::of_command(status)
                );
            }
            let after = children_usage()?;
            let cpu = |cpu: &crate::commands::stat::Cpu| cpu.user + cpu.system;
            // CAST: 2^64 nanoseconds are 584 years.
            let nanoseconds = |time: Duration| time.as_nanos() as u64;
            Ok(Cost {
                counted: match &traps {
                    Some(traps) => traps.count()?,
                    None if counted == Counted::Major => after.major - before.major,
                    None => after.faults - before.faults,
                },
                wall_ns: nanoseconds(wall),
                cpu_ns: nanoseconds(cpu(&after.cpu) - cpu(&before.cpu)),
            })
        })
        .collect()
}

fn change(before: &[Cost], after: &[Cost], number: impl Fn(&Cost) -> u64) -> Change {
    let side = |costs: &[Cost]| Side::of(&costs.iter().map(&number).collect::<Vec<_>>());
    Change {
        before: side(before),
        after: side(after),
    }
}
