// SPDX-License-Identifier: GPL-2.0-only

//! What is said at the end of a recording.

use std::{fmt::Write as _, time::Duration};

use anyhow::anyhow;
use fault_tracer_analysis::{DurationsByKind, Tally};
use fault_tracer_trace::{Access, Account, Fate, Kind, Row, Stacks, ThreadEvent};

use super::numbers::{counted, duration, grouped};
use crate::args::values::size;

/// What the summary says of the rows of a trace.
#[derive(Debug)]
pub struct RowCounts {
    /// Of the faults.
    pub tally: Tally,
    kinds: [u64; Kind::ALL.len()],
    fates: [u64; Fate::ALL.len()],
    gaps: u64,
    /// Processes that went on without being traced.
    left: u64,
    /// In recordings with durations.
    pub durations: Option<DurationsByKind>,
    /// In recordings with stacks.
    stacks: Option<StackCounts>,
}

/// How many faults have stacks.
#[derive(Debug, Default)]
struct StackCounts {
    /// All callers of which are known.
    whole: u64,
    /// Some callers of which are not.
    cut_off: u64,
    /// Faults without.
    without: u64,
    frames: Stacks,
}

impl StackCounts {
    fn add(&mut self, stack: Option<u32>) {
        match stack {
            Some(stack) if self.frames.is_whole(stack) => self.whole += 1,
            Some(_) => self.cut_off += 1,
            None => self.without += 1,
        }
    }

    fn line(&self) -> String {
        format!(
            "stacks: {} whole, {} cut off; {} without",
            counted(self.whole, "fault", "faults"),
            grouped(self.cut_off),
            grouped(self.without)
        )
    }
}

impl RowCounts {
    /// Nothing yet.
    pub fn new(durations: bool, stacks: bool) -> Self {
        Self {
            tally: Tally::new(),
            kinds: [0; Kind::ALL.len()],
            fates: [0; Fate::ALL.len()],
            gaps: 0,
            left: 0,
            durations: durations.then(DurationsByKind::default),
            stacks: stacks.then(StackCounts::default),
        }
    }

    /// Adds a row.
    pub fn add(&mut self, row: &Row) {
        match row {
            Row::Fault(fault) => {
                self.tally.add(&fault.fault, fault.attempts);
                self.kinds[fault.kind as usize] += 1;
                self.fates[fault.fate as usize] += 1;
                if let Some(durations) = &mut self.durations {
                    durations.add(fault);
                }
                if let Some(stacks) = &mut self.stacks {
                    stacks.add(fault.stack);
                }
            }
            Row::Frame(frame) => {
                if let Some(stacks) = &mut self.stacks {
                    stacks.frames.add(frame);
                }
            }
            Row::Gap(gap) => self.gaps += gap.count,
            Row::Thread(row) if row.event == ThreadEvent::Left && row.tid == row.pid => {
                self.left += 1;
            }
            _ => {}
        }
    }

    /// The lines on the rows, of a trace of so many bytes `place`, as "in the file".
    pub fn lines(&self, bytes: u64, place: &str) -> Vec<String> {
        fn parts(parts: impl Iterator<Item = (u64, &'static str)>) -> String {
            let mut parts: Vec<_> = parts.filter(|part| part.0 != 0).collect();
            parts.sort_by_key(|part| std::cmp::Reverse(part.0));
            let parts = parts
                .iter()
                .map(|(count, name)| format!("{} {name}", grouped(*count)));
            parts.collect::<Vec<_>>().join(", ")
        }
        let mut lines = Vec::new();
        let faults = self.tally.faults();
        if faults != 0 {
            let further = self.tally.attempts() - faults;
            let mut fates = parts(
                Fate::ALL
                    .map(|fate| (self.fates[fate as usize], fate.name()))
                    .into_iter(),
            );
            if further != 0 {
                let _ = write!(
                    fates,
                    "; {} made again",
                    counted(further, "attempt", "attempts")
                );
            }
            lines.push(fates);
            lines.push(parts(
                Kind::ALL
                    .map(|kind| (self.kinds[kind as usize], kind.name()))
                    .into_iter(),
            ));
            let tenths = (bytes as f64 * 10.0 / faults as f64) as u64;
            lines.push(format!(
                "{} {place}, {}.{} a fault",
                counted(bytes, "byte", "bytes"),
                tenths / 10,
                tenths % 10
            ));
        }
        lines.extend(self.stacks.as_ref().map(StackCounts::line));
        if self.left != 0 {
            lines.push(format!(
                "{} left the recording and went on: the options did not name them any more, or they executed a program that \
                 this user may not trace (set-uid, or not readable)",
                counted(self.left, "process", "processes")
            ));
        }
        if self.gaps != 0 {
            lines.push(format!(
                "the counters of the threads show {} that are not in the trace (see fault-tracer verify)",
                counted(self.gaps, "fault", "faults")
            ));
        }
        lines
    }
}

/// A recording that has ended.
#[derive(Debug)]
pub struct Ended {
    /// What became of the faults of the session, as the module counts.
    pub account: Account,
    /// What was written.
    pub tally: Tally,
    /// Recorded faults that an earlier client has taken.
    pub taken_before: u64,
    /// Faults that stand out of their order.
    pub late: u64,
    /// Returns of faults that are not there.
    pub stray_returns: u64,
    /// Further lines for the summary.
    pub details: Vec<String>,
}

/// What is wrong with a recording whose counts contradict each other.
pub fn contradiction(ended: &Ended) -> Option<anyhow::Error> {
    let Ended {
        account,
        tally,
        taken_before,
        late,
        stray_returns,
        ..
    } = ended;
    if account.deaf != 0 {
        return Some(anyhow!(
            "the kernel's probe was switched off during the recording: faults happened that nobody has \
             counted (echo 1 >/sys/kernel/debug/kprobes/enabled and sysctl kernel.ftrace_enabled=1 switch it \
             on)"
        ));
    }
    let mut faults = Vec::new();
    let written = tally.attempts() + taken_before;
    if written != account.recorded {
        faults.push(format!(
            "the module counts {} faults as recorded, but {written} were delivered",
            account.recorded
        ));
    }
    if account.hits != account.recorded + account.dropped + account.overwritten {
        faults.push(format!(
            "the module counts {} faults that are neither recorded nor lost",
            account
                .hits
                .abs_diff(account.recorded + account.dropped + account.overwritten)
        ));
    }
    if *late != 0 {
        faults.push(format!("{late} faults stand out of their order"));
    }
    // The fault itself may have been overwritten.
    if *stray_returns != 0 && account.overwritten == 0 {
        faults.push(format!("{stray_returns} returns belong to no fault"));
    }
    (!faults.is_empty()).then(|| anyhow!("{}: please report this", faults.join("; ")))
}

/// What a person wants to know at the end.
pub fn summary(
    what: &str,
    name: &str,
    took: Duration,
    ring_bytes: u64,
    ended: &Ended,
) -> Vec<String> {
    let Ended { account, tally, .. } = ended;
    let mut lines = vec![format!("traced {what} for {}", duration(took))];
    let mut accesses = String::new();
    for (access, one, many) in [
        (Access::Read, "read", "reads"),
        (Access::Write, "write", "writes"),
        (Access::Execute, "instruction fetch", "instruction fetches"),
    ] {
        let separator = if accesses.is_empty() { "" } else { ", " };
        let _ = write!(
            accesses,
            "{separator}{}",
            counted(tally.of(access), one, many)
        );
    }
    lines.push(format!(
        "{} ({accesses}) of {}, {}",
        counted(tally.faults(), "fault", "faults"),
        counted(tally.processes().into(), "process", "processes"),
        counted(tally.threads().into(), "thread", "threads"),
    ));
    lines.extend(ended.details.iter().cloned());
    if ended.taken_before != 0 {
        lines.push(format!(
            "{} of this session were drained before",
            counted(ended.taken_before, "fault", "faults")
        ));
    }
    lines.push(format!(
        "lost: {} ({} dropped, {} overwritten, {} missed)",
        grouped(account.lost()),
        grouped(account.dropped),
        grouped(account.overwritten),
        grouped(account.missed)
    ));
    if account.passed_over != 0 {
        lines.push(format!(
            "passed over, as asked: {} of {}",
            grouped(account.passed_over),
            counted(account.seen(), "fault seen", "faults seen")
        ));
    }
    let kib = ring_bytes / 1024;
    if account.dropped != 0 {
        lines.push(format!(
            "dropped: the rings of {kib} KiB per CPU were full; try --ring-size {}",
            size(kib * 4)
        ));
    }
    if account.overwritten != 0 {
        lines.push(format!(
            "overwritten: older than what rings of {kib} KiB per CPU hold, as the mode overwrite asks"
        ));
    }
    if account.missed != 0 {
        lines.push(
            "missed: another probe was running on the CPU; stop other tracers of page faults"
                .to_owned(),
        );
    }
    lines.push(format!("written to {name}"));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use fault_tracer_trace::{Fault, FrameRow, OUTERMOST, UNKNOWN_CALLER};

    fn ended(account: Account) -> Ended {
        let mut tally = Tally::new();
        for tid in 0..account.recorded {
            let fault = Fault {
                pid: 7,
                tid: tid as u32,
                access: Access::Write,
                ..Fault::default()
            };
            tally.add(&fault, 1);
        }
        Ended {
            account,
            tally,
            taken_before: 0,
            late: 0,
            stray_returns: 0,
            details: Vec::new(),
        }
    }

    #[test]
    fn the_summary_says_what_and_how_many() {
        let ended = ended(Account {
            hits: 1200,
            recorded: 1200,
            ..Default::default()
        });
        let lines = summary("ls -l", "f.csv", Duration::from_millis(1500), 4096, &ended);
        assert_eq!(
            lines,
            [
                "traced ls -l for 1.5 s",
                "1,200 faults (0 reads, 1,200 writes, 0 instruction fetches) of 1 process, 1,200 threads",
                "lost: 0 (0 dropped, 0 overwritten, 0 missed)",
                "written to f.csv",
            ]
        );
        assert!(contradiction(&ended).is_none());
    }

    #[test]
    fn stacks_are_counted() {
        let mut stacks = StackCounts::default();
        for (id, caller) in [(2, OUTERMOST), (3, 2), (4, UNKNOWN_CALLER), (5, 4)] {
            stacks.frames.add(&FrameRow {
                time_ns: 0,
                cpu: 0,
                pid: 1,
                tid: 1,
                id,
                caller,
                address: 0,
                code: None,
            });
        }
        let of = [0, 2, 3, 1, 4, 5].map(Some).into_iter().chain([None]);
        of.for_each(|stack| stacks.add(stack));
        assert_eq!(
            stacks.line(),
            "stacks: 3 faults whole, 3 cut off; 1 without"
        );
    }

    #[test]
    fn each_kind_of_loss_comes_with_advice() {
        let ended = ended(Account {
            hits: 5,
            recorded: 2,
            dropped: 2,
            overwritten: 1,
            missed: 3,
            sideband_dropped: 0,
            ..Account::default()
        });
        let text = summary("x", "y", Duration::ZERO, 1 << 20, &ended).join("\n");
        assert!(text.contains("lost: 6 (2 dropped, 1 overwritten, 3 missed)"));
        assert!(text.contains("try --ring-size 4M"));
        assert!(text.contains("overwritten: older than what rings of 1024 KiB"));
        assert!(text.contains("missed: another probe"));
    }

    #[test]
    fn counts_that_contradict_each_other_are_reported() {
        let mut wrong = ended(Account {
            recorded: 3,
            ..Default::default()
        });
        wrong.account.recorded = 5;
        wrong.account.hits = 5;
        wrong.late = 1;
        wrong.stray_returns = 2;
        let message = contradiction(&wrong).unwrap().to_string();
        assert!(message.contains("5 faults as recorded, but 3"));
        assert!(message.contains("1 faults stand out"));
        assert!(message.contains("2 returns belong to no fault"));
        wrong.late = 0;
        wrong.stray_returns = 0;
        wrong.taken_before = 2;
        assert!(contradiction(&wrong).is_none());
        wrong.account.hits = 6;
        let message = contradiction(&wrong).unwrap().to_string();
        assert!(message.contains("counts 1 faults that are neither"));
    }
}
