// SPDX-License-Identifier: GPL-2.0-only

//! The lines of `fault-tracer verify`.

use std::{collections::BTreeSet, time::Duration};

use fault_tracer_analysis::{DurationCheck, Outcome, Verdict, Wrong};
use fault_tracer_trace::{Account, Loss, LostRow, Name};

use super::numbers::{counted, duration, grouped};

/// More ids than this are only counted.
const IDS_MOST: usize = 20;

/// What is to be said of a verdict on the trace of such a selection, or of all faults if it is empty. With `list_losses`,
/// each stretch of losses has a line.
pub fn lines(verdict: &Verdict, selection: &str, list_losses: bool) -> Vec<String> {
    let mut lines = vec![faults(verdict)];
    if verdict.is_selection {
        lines.extend(selected(verdict, selection));
        lines.extend(losses(&verdict.losses, list_losses));
        lines.extend(account(verdict));
        lines.push(outcome(verdict));
        return lines;
    }
    let (min, maj) = verdict.expected;
    lines.push(format!(
        "{} from beginning to end: their counters rose by {} minor + {} major, found {} minor + {} major",
        threads(verdict.threads),
        grouped(min),
        grouped(maj),
        grouped(verdict.found.minor),
        grouped(verdict.found.major)
    ));
    if verdict.alive != 0 {
        lines.push(format!(
            "{} of them still ran when the recording was stopped: they are checked up to that point",
            grouped(verdict.alive)
        ));
    }
    if verdict.left != 0 {
        lines.push(format!(
            "{} of them went on and were traced no more, as the recording's rules say: they are checked up to that point",
            grouped(verdict.left)
        ));
    }
    if verdict.under_way != 0 {
        lines.push(format!(
            "{} of them: one fault each was under way when the recording began, and is not part of it",
            grouped(verdict.under_way)
        ));
    }
    lines.extend(verdict.wrong.iter().map(wrong));
    if let Some(more @ 1..) = verdict
        .wrong_threads
        .checked_sub(verdict.wrong.len() as u64)
    {
        lines.push(format!("and {} more that do not balance", threads(more)));
    }
    if verdict.open_threads != 0 {
        lines.push(format!(
            "{} without an end in the trace: {} proven by the counters from one to the next, up to the last one",
            threads(verdict.open_threads),
            counted(verdict.open_faults, "fault", "faults")
        ));
    }
    if verdict.ended_before != 0 {
        lines.push(format!(
            "{} ended while the recording began, and not part of it",
            threads(verdict.ended_before)
        ));
    }
    if !verdict.unbegun.is_empty() {
        lines.push(unbegun(verdict));
    }
    if verdict.open_gaps != 0 {
        lines.push(format!(
            "{} faults or more are missing of threads without an end in the trace",
            grouped(verdict.open_gaps)
        ));
    }
    lines.extend(losses(&verdict.losses, list_losses));
    lines.extend(account(verdict));
    lines.extend(verdict.durations.as_ref().map(durations));
    lines.push(outcome(verdict));
    lines
}

/// What can be said of the threads where a selection was recorded.
fn selected(verdict: &Verdict, selection: &str) -> [String; 2] {
    let Account { passed_over, .. } = verdict.account;
    let (min, maj) = verdict.expected;
    [
        format!(
            "recorded: {selection}; {} were seen, {} of them passed over",
            counted(verdict.account.seen(), "fault", "faults"),
            grouped(passed_over)
        ),
        format!(
            "{} from beginning to end: their counters rose by {} minor + {} major, and at least as many must have been seen",
            threads(verdict.threads),
            grouped(min),
            grouped(maj)
        ),
    ]
}

fn faults(verdict: &Verdict) -> String {
    let faults = counted(verdict.faults, "fault", "faults");
    let further = verdict.attempts.saturating_sub(verdict.faults);
    if further == 0 {
        format!("{faults} in the trace")
    } else {
        format!(
            "{faults} in the trace, {} of them",
            counted(further, "further attempt", "further attempts")
        )
    }
}

/// So many threads, in words.
fn threads(count: u64) -> String {
    counted(count, "thread", "threads")
}

fn wrong(wrong: &Wrong) -> String {
    let name = |name: &Option<Name>| name.as_deref().unwrap_or("?").to_owned();
    let Wrong {
        thread,
        found,
        expected,
    } = wrong;
    let unknown = match found.unknown {
        0 => String::new(),
        count => format!(" and {count} of unknown fate"),
    };
    format!(
        "thread {} ({}) of process {} ({}), up to {} ns: counters rose by {} minor + {} major, \
         found {} minor + {} major{unknown}: {} missing",
        thread.tid,
        name(&thread.thread),
        thread.pid,
        name(&thread.process),
        thread.time_ns,
        expected.0,
        expected.1,
        found.minor,
        found.major,
        wrong.missing()
    )
}

fn unbegun(verdict: &Verdict) -> String {
    let ids = verdict.unbegun.iter().take(IDS_MOST).map(u32::to_string);
    format!(
        "{} whose beginning is not in the trace: {} of them cannot be checked (thread ids {}{})",
        threads(verdict.unbegun.len() as u64),
        counted(verdict.unbegun_faults, "fault", "faults"),
        ids.collect::<Vec<_>>().join(", "),
        if verdict.unbegun.len() > IDS_MOST {
            ", ..."
        } else {
            ""
        }
    )
}

/// The sums of the losses, and each of them if they are to be listed.
fn losses(losses: &[LostRow], list: bool) -> Vec<String> {
    let mut lines = Vec::new();
    for (how, why) in [
        (Loss::Dropped, "a ring was full"),
        (
            Loss::Overwritten,
            "they were overwritten before they were read",
        ),
    ] {
        let these: Vec<_> = losses.iter().filter(|lost| lost.how == how).collect();
        if these.is_empty() {
            continue;
        }
        let count = these
            .iter()
            .fold(0, |sum: u64, lost| sum.saturating_add(lost.count));
        let time = these.iter().fold(Duration::ZERO, |sum, lost| {
            sum.saturating_add(Duration::from_nanos(
                lost.end_ns.saturating_sub(lost.time_ns),
            ))
        });
        let cpus: BTreeSet<u32> = these.iter().map(|lost| lost.cpu).collect();
        let up_to = if how == Loss::Overwritten {
            "up to "
        } else {
            ""
        };
        lines.push(format!(
            "lost: {up_to}{} on {}, in {} of {} in all: {why}{}",
            counted(count, "fault", "faults"),
            counted(cpus.len() as u64, "CPU", "CPUs"),
            counted(these.len() as u64, "stretch", "stretches"),
            duration(time),
            if list { "" } else { " (--losses lists them)" }
        ));
        if list {
            lines.extend(these.iter().map(|lost| {
                format!(
                    "  {up_to}{} on CPU {} from {} to {} ns",
                    counted(lost.count, "fault", "faults"),
                    lost.cpu,
                    lost.time_ns,
                    lost.end_ns
                )
            }));
        }
    }
    lines
}

/// What the account says, and what contradicts it.
fn account(verdict: &Verdict) -> Vec<String> {
    let Account {
        hits,
        recorded,
        dropped,
        overwritten,
        missed,
        sideband_dropped,
        deaf,
        passed_over: _,
    } = verdict.account;
    let mut lines = Vec::new();
    if deaf != 0 {
        lines.push(format!(
            "the probe was switched off during the recording (found {} times): faults happened that \
             nobody has counted",
            grouped(deaf)
        ));
    }
    if sideband_dropped != 0 {
        lines.push(format!(
            "{} of threads' beginnings, names and ends did not fit into the rings: those threads cannot be checked",
            counted(sideband_dropped, "record", "records")
        ));
    }
    let Some(written) = verdict.end else {
        lines.push("the trace has no end: the recording was cut off".into());
        return lines;
    };
    if verdict.dropped_by_rows() != dropped {
        lines.push(format!(
            "{} faults were dropped, and the losses above are {}",
            grouped(dropped),
            grouped(verdict.dropped_by_rows())
        ));
    }
    lines.push(format!(
        "the module's account: {} hits = {} recorded + {} dropped + {} overwritten; {} missed",
        grouped(hits),
        grouped(recorded),
        grouped(dropped),
        grouped(overwritten),
        grouped(missed)
    ));
    if written != verdict.attempts || recorded != verdict.attempts {
        lines.push(format!(
            "of {} recorded, {} were written and {} are in the trace",
            grouped(recorded),
            grouped(written),
            grouped(verdict.attempts)
        ));
    }
    if !verdict.accounts_agree() {
        lines.push("the account in the metadata differs from the account in the rows".into());
    }
    lines
}

fn durations(check: &DurationCheck) -> String {
    let rest = match check.under_way() {
        _ if check.overwritten => ", some overwritten".to_owned(),
        Some(0) => String::new(),
        Some(count) => format!(", {} under way at the end", grouped(count)),
        None => format!(
            ", which do not agree: at most {} were under way at the end",
            grouped(check.open)
        ),
    };
    format!(
        "durations: {} attempts have one, {} have none; {} returns missed{rest}",
        grouped(check.with),
        grouped(check.without),
        grouped(check.missed)
    )
}

fn outcome(verdict: &Verdict) -> String {
    let proven = grouped(verdict.proven());
    match verdict.outcome() {
        Outcome::Complete => format!(
            "complete: {} of {proven} faults found, difference 0",
            grouped(verdict.proven())
        ),
        Outcome::Selection => format!(
            "a whole selection: each of the {} that were to be recorded is in the trace",
            counted(verdict.faults, "fault", "faults")
        ),
        Outcome::Incomplete if verdict.is_selection => format!(
            "NOT COMPLETE: faults of the selection are missing, or were not seen ({} in the trace)",
            counted(verdict.faults, "fault", "faults")
        ),
        Outcome::NotProven => format!(
            "NOT PROVEN: no thread's counters are in the trace, so none of its {} can be checked",
            counted(verdict.faults, "fault", "faults")
        ),
        Outcome::Incomplete => format!(
            "NOT COMPLETE: {proven} of {} proven, difference {} over {}",
            counted(verdict.faults, "fault", "faults"),
            verdict.difference(),
            threads(verdict.wrong_threads)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fault_tracer_analysis::Found;
    use fault_tracer_trace::{ThreadEvent, ThreadRow};

    fn whole(faults: u64) -> Verdict {
        Verdict {
            faults,
            attempts: faults,
            threads: 2,
            expected: (faults, 0),
            found: Found {
                minor: faults,
                ..Found::default()
            },
            account: Account {
                hits: faults,
                recorded: faults,
                ..Account::default()
            },
            end: Some(faults),
            ..Verdict::default()
        }
    }

    fn text(verdict: &Verdict) -> String {
        lines(verdict, "", false).join("\n")
    }

    #[test]
    fn a_whole_trace() {
        assert_eq!(
            text(&whole(1234)),
            "1,234 faults in the trace\n\
             2 threads from beginning to end: their counters rose by 1,234 minor + 0 major, \
             found 1,234 minor + 0 major\n\
             the module's account: 1,234 hits = 1,234 recorded + 0 dropped + 0 overwritten; 0 missed\n\
             complete: 1,234 of 1,234 faults found, difference 0"
        );
    }

    #[test]
    fn a_thread_that_does_not_balance_is_named() {
        let thread = ThreadRow {
            event: ThreadEvent::Exit,
            time_ns: 9,
            cpu: 0,
            pid: 7,
            tid: 8,
            process: None,
            thread: Some("x".into()),
            program: None,
            parent: None,
            old_tid: None,
            min_flt: 4,
            maj_flt: 1,
        };
        let found = Found {
            minor: 1,
            unknown: 1,
            ..Found::default()
        };
        let verdict = Verdict {
            wrong: vec![Wrong {
                thread,
                found,
                expected: (4, 1),
            }],
            wrong_threads: 2,
            expected: (4, 1),
            found,
            ..whole(2)
        };
        let text = text(&verdict);
        assert!(
            text.contains("thread 8 (x) of process 7 (?), up to 9 ns"),
            "{text}"
        );
        assert!(text.contains("and 1 of unknown fate: 3 missing"), "{text}");
        assert!(
            text.contains("and 1 thread more that do not balance"),
            "{text}"
        );
        assert!(
            text.ends_with("NOT COMPLETE: 1 of 2 faults proven, difference 3 over 2 threads"),
            "{text}"
        );
    }

    #[test]
    fn losses_are_summed_up_and_listed_on_request() {
        let lost = |how, cpu, count| LostRow {
            how,
            cpu,
            time_ns: 1_000_000,
            end_ns: 3_000_000,
            count,
        };
        let verdict = Verdict {
            losses: vec![
                lost(Loss::Dropped, 0, 1000),
                lost(Loss::Dropped, 1, 2),
                lost(Loss::Overwritten, 1, 7),
            ],
            ..whole(5)
        };
        let text = text(&verdict);
        assert!(
            text.contains("lost: 1,002 faults on 2 CPUs, in 2 stretches of 4 ms in all: a ring was full (--losses"),
            "{text}"
        );
        assert!(text.contains("lost: up to 7 faults on 1 CPU"), "{text}");
        assert!(!text.contains("from 1000000"), "{text}");
        let listed = lines(&verdict, "", true).join("\n");
        assert!(
            listed.contains("  1,000 faults on CPU 0 from 1000000 to 3000000 ns"),
            "{listed}"
        );
    }

    #[test]
    fn what_is_proven_without_ends_is_said() {
        let verdict = Verdict {
            threads: 0,
            expected: (0, 0),
            found: Found::default(),
            open_threads: 1,
            open_faults: 85,
            end: None,
            ..whole(86)
        };
        let text = text(&verdict);
        assert!(text.contains("cut off"), "{text}");
        assert!(
            text.contains("NOT COMPLETE: 85 of 86 faults proven, difference 0"),
            "{text}"
        );
    }

    #[test]
    fn a_trace_of_which_nothing_can_be_proven_says_so() {
        let verdict = Verdict {
            threads: 0,
            expected: (0, 0),
            found: Found::default(),
            ..whole(0)
        };
        assert_eq!(verdict.outcome(), Outcome::NotProven);
        assert!(text(&verdict).contains("NOT PROVEN"));
    }

    #[test]
    fn durations_that_do_not_agree_are_said() {
        let check = DurationCheck {
            with: 5,
            without: 3,
            missed: 1,
            open: 1,
            overwritten: false,
        };
        assert!(durations(&check).contains("do not agree: at most 1"));
        assert!(
            durations(&DurationCheck { open: 2, ..check }).ends_with(", 2 under way at the end")
        );
        assert!(durations(&DurationCheck {
            overwritten: true,
            ..check
        })
        .ends_with("some overwritten"));
    }
}
