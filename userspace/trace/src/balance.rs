// SPDX-License-Identifier: GPL-2.0-only

//! Whether a trace has every fault of its threads: found = counter at the end − counter at the beginning.

use std::collections::{HashMap, HashSet};

use crate::{Account, Counter, CounterRow, Fate, Loss, LostRow, Name, Row, ThreadEvent, ThreadRow};

/// More threads than this that do not balance, or cannot be checked, are only counted.
const THREADS_SHOWN: usize = 20;

/// Adds up the rows of a trace, in their order.
#[derive(Debug, Default)]
pub struct Balance {
    threads: HashMap<u32, Open>,
    closed: u64,
    /// Of them, those that were still there when the recording was stopped.
    alive: u64,
    /// Threads that ended and whose beginning is not there, with the times of their ends.
    unbegun: Vec<(u32, u64)>,
    /// First threads of processes that have ended, by their ids.
    ended_leaders: HashSet<u32>,
    /// When the last was told of that was there at the beginning.
    last_present_ns: Option<u64>,
    wrong: Vec<Wrong>,
    wrong_threads: u64,
    /// Sums over the threads that were checked.
    found: Found,
    expected: (u64, u64),
    under_way: u64,
    faults: u64,
    losses: Vec<LostRow>,
    gaps: u64,
    account: Account,
    /// What the metadata tells of it.
    told: Option<Account>,
    end: Option<u64>,
    durations: Durations,
}

/// Which faults have a duration.
#[derive(Debug, Default)]
struct Durations {
    with: u64,
    without: u64,
    /// As the module counts them; `None` where durations were not asked for.
    missed: Option<u64>,
    /// Threads whose last fault has none, and which have not ended since: it may still be under way.
    open: HashSet<u32>,
}

impl Durations {
    fn fault(&mut self, tid: u32, duration_ns: Option<u64>) {
        if duration_ns.is_some() {
            self.with += 1;
            self.open.remove(&tid);
        } else {
            self.without += 1;
            self.open.insert(tid);
        }
    }

    /// What is to be said of them, and whether the numbers agree. Where records were overwritten, returns may
    /// be among them.
    fn line(&self, overwritten: bool) -> Option<(String, bool)> {
        let missed = self.missed?;
        if overwritten {
            let line = format!(
                "durations: {} faults have one, {} have none; {missed} returns missed, some overwritten",
                self.with, self.without
            );
            return Some((line, true));
        }
        let under_way = self.without.checked_sub(missed);
        let agrees = under_way.is_some_and(|count| count <= self.open.len() as u64);
        let rest = match under_way {
            Some(0) => String::new(),
            Some(count) if agrees => format!(", {count} under way at the end"),
            _ => format!(
                ", which do not agree: at most {} were under way at the end",
                self.open.len()
            ),
        };
        let line = format!(
            "durations: {} faults have one, {} have none; {missed} returns missed{rest}",
            self.with, self.without
        );
        Some((line, agrees))
    }
}

/// Faults of a thread in the trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Found {
    minor: u64,
    major: u64,
    unknown: u64,
}

impl Found {
    /// All of them. Those of unknown fate are taken for completed: most are, and they stand beside gaps.
    fn all(&self) -> i128 {
        i128::from(self.minor) + i128::from(self.major) + i128::from(self.unknown)
    }
}

/// A thread that has not ended yet.
#[derive(Debug, Default)]
struct Open {
    /// Its counters at the beginning, if that is in the trace, and whether it was there before.
    start: Option<(u64, u64)>,
    present: bool,
    /// It was checked at the end of the recording: what comes behind is not.
    checked: bool,
    /// It executes a program and has taken the id of its process's first thread, under which it has no
    /// beginning; it is joined with what it was before when it has executed.
    takes_over: bool,
    found: Found,
    gaps: u64,
}

#[derive(Debug)]
struct Wrong {
    thread: ThreadRow,
    found: Found,
    expected: (u64, u64),
}

/// The result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What is to be said.
    pub lines: Vec<String>,
    /// Whether nothing is missing.
    pub closes: bool,
}

impl Balance {
    /// Nothing yet of a trace that tells this account before its rows, if it does.
    pub fn new(told: Option<Account>) -> Self {
        Self {
            told,
            ..Self::default()
        }
    }

    /// Adds the next row.
    pub fn add(&mut self, row: &Row) {
        match row {
            Row::Fault(fault) => {
                self.faults += 1;
                self.durations.fault(fault.fault.tid, fault.duration_ns);
                let found = &mut self.threads.entry(fault.fault.tid).or_default().found;
                match fault.fate {
                    Fate::Minor => found.minor += 1,
                    Fate::Major => found.major += 1,
                    Fate::Unknown => found.unknown += 1,
                    Fate::Retried | Fate::Failed => {}
                }
            }
            Row::Thread(thread) => self.thread(thread),
            Row::Gap(gap) => {
                // A damaged trace may say anything.
                self.gaps = self.gaps.saturating_add(gap.count);
                let gaps = &mut self.threads.entry(gap.tid).or_default().gaps;
                *gaps = gaps.saturating_add(gap.count);
            }
            Row::Lost(lost) => self.losses.push(lost.clone()),
            Row::Counter(row) => self.counter(row),
            Row::Pending(_) | Row::Text(_) => {}
        }
    }

    fn counter(&mut self, row: &CounterRow) {
        if !row.add_to(&mut self.account) {
            match row.counter {
                Counter::MissedReturns => self.durations.missed = Some(row.count),
                _ => self.end = Some(row.count),
            }
        }
    }

    fn thread(&mut self, row: &ThreadRow) {
        let counters = (row.min_flt, row.maj_flt);
        match row.event {
            ThreadEvent::Fork => {
                let start = Open {
                    start: Some(counters),
                    ..Open::default()
                };
                self.threads.insert(row.tid, start);
                self.ended_leaders.remove(&row.tid);
            }
            ThreadEvent::Present => {
                self.last_present_ns = self.last_present_ns.max(Some(row.time_ns));
                // What was found before is in these counters.
                let thread = self.threads.entry(row.tid).or_default();
                if thread.start.is_none() {
                    *thread = Open {
                        start: Some(counters),
                        present: true,
                        ..Open::default()
                    };
                }
            }
            ThreadEvent::Exec => {
                self.ended_leaders.remove(&row.tid);
                if let Some(old) = row.old_tid.filter(|&old| old != row.tid) {
                    if let Some(mut thread) = self.threads.remove(&old) {
                        // It may have had the new id for some faults before it is told.
                        if let Some(new) = self.threads.remove(&row.tid) {
                            if new.start.is_none() {
                                thread.found.minor += new.found.minor;
                                thread.found.major += new.found.major;
                                thread.found.unknown += new.found.unknown;
                                thread.gaps = thread.gaps.saturating_add(new.gaps);
                            } else if thread.start.is_none() {
                                // It was told of in between.
                                thread = new;
                            }
                        }
                        self.threads.insert(row.tid, thread);
                    }
                }
            }
            ThreadEvent::Rename => {
                if self.ended_leaders.contains(&row.tid) {
                    self.threads.entry(row.tid).or_default().takes_over = true;
                }
            }
            ThreadEvent::Exit => {
                self.durations.open.remove(&row.tid);
                if row.tid == row.pid {
                    self.ended_leaders.insert(row.tid);
                }
                let thread = self.threads.remove(&row.tid).unwrap_or_default();
                if thread.start.is_none() {
                    self.unbegun.push((row.tid, row.time_ns));
                } else if !thread.checked {
                    self.check(row, &thread);
                }
            }
            ThreadEvent::Alive => {
                let thread = self.threads.remove(&row.tid).unwrap_or_default();
                if thread.start.is_some() && !thread.checked {
                    self.check(row, &thread);
                    self.alive += 1;
                }
                let checked = Open {
                    start: thread.start,
                    checked: true,
                    takes_over: thread.takes_over,
                    ..Open::default()
                };
                self.threads.insert(row.tid, checked);
            }
        }
    }

    fn check(&mut self, row: &ThreadRow, thread: &Open) {
        let Some((min, maj)) = thread.start else {
            return;
        };
        self.closed += 1;
        let mut expected = (row.min_flt.wrapping_sub(min), row.maj_flt.wrapping_sub(maj));
        let found = thread.found;
        self.found.minor += found.minor;
        self.found.major += found.major;
        self.found.unknown += found.unknown;
        self.expected.0 = self.expected.0.wrapping_add(expected.0);
        self.expected.1 = self.expected.1.wrapping_add(expected.1);
        let total = expected.0.wrapping_add(expected.1);
        if thread.present && thread.gaps == 1 && total == found.minor + found.major + 1 {
            // The thread was inside of a fault when the recording began.
            self.under_way += 1;
            expected = (found.minor, found.major);
        }
        if expected != (found.minor, found.major) {
            self.wrong_threads += 1;
            if self.wrong.len() < THREADS_SHOWN {
                self.wrong.push(Wrong {
                    thread: row.clone(),
                    found,
                    expected,
                });
            }
        }
    }

    /// Ends the trace.
    pub fn close(self) -> Report {
        let mut lines = Vec::new();
        let mut closes = true;
        let (min, maj) = self.expected;
        let found = self.found;
        lines.push(format!("{} faults in the trace", self.faults));
        lines.push(format!(
            "{} from beginning to end: their counters rose by {min} minor + {maj} major, \
             found {} minor + {} major",
            threads(self.closed),
            found.minor,
            found.major
        ));
        if self.alive != 0 {
            lines.push(format!(
                "{} of them still ran when the recording was stopped",
                self.alive
            ));
        }
        if self.under_way != 0 {
            lines.push(format!(
                "{} of them: one fault each was under way when the recording began, and is not part of it",
                self.under_way
            ));
        }
        for Wrong {
            thread,
            found,
            expected,
        } in &self.wrong
        {
            closes = false;
            lines.push(wrong_line(thread, *found, *expected));
        }
        if self.wrong_threads > self.wrong.len() as u64 {
            lines.push(format!(
                "and {} more that do not balance",
                threads(self.wrong_threads - self.wrong.len() as u64)
            ));
        }
        // Threads of which nothing but a beginning is in the trace take part, too.
        let open = self
            .threads
            .values()
            .filter(|thread| thread.start.is_some() && !thread.checked)
            .count();
        if open != 0 {
            lines.push(format!(
                "{} still ran at the end: checked up to the last fault",
                threads(open as u64)
            ));
        }
        let unbegun = self.threads.iter();
        let unbegun = unbegun.filter(|(_, thread)| thread.start.is_none() && !thread.takes_over);
        // Some end while the recording begins and the processes are being told of.
        let (early, late): (Vec<_>, Vec<_>) = self
            .unbegun
            .iter()
            .partition(|(_, time_ns)| self.last_present_ns >= Some(*time_ns));
        if !early.is_empty() {
            lines.push(format!(
                "{} ended while the recording began, and not part of it",
                threads(early.len() as u64)
            ));
        }
        let late = late.into_iter().map(|(tid, _)| tid);
        let mut unbegun: Vec<u32> = unbegun.map(|(&tid, _)| tid).chain(late).collect();
        if !unbegun.is_empty() {
            closes = false;
            unbegun.sort_unstable();
            let names = unbegun.iter().take(THREADS_SHOWN).map(u32::to_string);
            lines.push(format!(
                "{} whose beginning is not in the trace, not to be checked: {}{}",
                threads(unbegun.len() as u64),
                names.collect::<Vec<_>>().join(", "),
                if unbegun.len() > THREADS_SHOWN {
                    ", ..."
                } else {
                    ""
                }
            ));
        }
        let gaps = self.threads.values().map(Open::unexplained_gaps);
        let open_gaps = gaps.fold(0, u64::saturating_add);
        if open_gaps != 0 {
            closes = false;
            lines.push(format!(
                "{open_gaps} faults or more are missing of threads that still ran at the end"
            ));
        }
        for lost in &self.losses {
            closes = false;
            let LostRow {
                how,
                cpu,
                time_ns,
                end_ns,
                count,
            } = lost;
            lines.push(match how {
                Loss::Dropped => format!(
                    "lost: {count} faults on CPU {cpu} from {time_ns} to {end_ns} ns: its ring was full"
                ),
                Loss::Overwritten => format!(
                    "lost: up to {count} faults on CPU {cpu} from {time_ns} to {end_ns} ns: they were \
                     overwritten before they were read"
                ),
            });
        }
        let Account {
            hits,
            recorded,
            dropped,
            overwritten,
            missed,
            untold,
        } = self.account;
        let told: u64 = self
            .losses
            .iter()
            .filter(|lost| lost.how == Loss::Dropped)
            .map(|lost| lost.count)
            .sum();
        if self.end.is_some() && told != dropped {
            closes = false;
            lines.push(format!(
                "{dropped} faults were dropped, and the losses above are {told}"
            ));
        }
        if untold != 0 {
            closes = false;
            lines.push(format!(
                "{untold} records of threads' beginnings, names and ends did not fit: there are threads that \
                 cannot be checked"
            ));
        }
        match self.end {
            None => {
                closes = false;
                lines.push("the trace has no end: the recording was cut off".into());
            }
            Some(rows) => {
                lines.push(format!(
                    "the module's account: {hits} hits = {recorded} recorded + {dropped} dropped + \
                     {overwritten} overwritten; {missed} missed"
                ));
                if rows != self.faults || recorded != self.faults {
                    closes = false;
                    lines.push(format!(
                        "of {recorded} faults recorded, {rows} were written and {} are there",
                        self.faults
                    ));
                }
                if dropped | overwritten | missed != 0 || hits != recorded {
                    closes = false;
                }
                if self.told.is_some_and(|told| told != self.account) {
                    closes = false;
                    lines.push("the metadata tells another account than the rows".into());
                }
            }
        }
        let overwritten = |lost: &LostRow| lost.how == Loss::Overwritten;
        let overwritten = self.losses.iter().any(overwritten);
        if let Some((line, agrees)) = self.durations.line(overwritten) {
            closes &= agrees;
            lines.push(line);
        }
        lines.push(if closes {
            format!(
                "complete: {} of {} faults found, difference 0",
                found.minor + found.major,
                found.minor + found.major
            )
        } else {
            let difference =
                i128::from(min) + i128::from(maj) - i128::from(self.under_way) - found.all();
            format!(
                "NOT COMPLETE: difference {difference} over {}",
                threads(self.wrong_threads)
            )
        });
        Report { lines, closes }
    }
}

impl Open {
    /// Gaps but for a fault that was under way when the recording began.
    fn unexplained_gaps(&self) -> u64 {
        if self.present && self.gaps == 1 {
            0
        } else {
            self.gaps
        }
    }
}

/// So many threads, in words.
fn threads(count: u64) -> String {
    format!("{count} thread{}", if count == 1 { "" } else { "s" })
}

fn wrong_line(thread: &ThreadRow, found: Found, expected: (u64, u64)) -> String {
    let name = |name: &Option<Name>| name.as_deref().unwrap_or("?").to_owned();
    let ThreadRow {
        pid, tid, time_ns, ..
    } = thread;
    let unknown = match found.unknown {
        0 => String::new(),
        count => format!(" and {count} of unknown fate"),
    };
    let difference = i128::from(expected.0) + i128::from(expected.1) - found.all();
    format!(
        "thread {tid} ({}) of process {pid} ({}), up to {time_ns} ns: counters rose by {} minor + {} major, \
         found {} minor + {} major{unknown}: {difference} missing",
        name(&thread.thread),
        name(&thread.process),
        expected.0,
        expected.1,
        found.minor,
        found.major,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fault, GapRow, Kind, ResolvedFault};

    fn thread(event: ThreadEvent, tid: u32, min_flt: u64, maj_flt: u64) -> Row {
        Row::Thread(Box::new(ThreadRow {
            event,
            time_ns: 9,
            cpu: 0,
            pid: 7,
            tid,
            process: None,
            thread: Some("x".into()),
            program: None,
            parent: None,
            old_tid: None,
            min_flt,
            maj_flt,
        }))
    }

    fn fault(tid: u32, fate: Fate) -> Row {
        Row::Fault(Box::new(ResolvedFault {
            fault: Fault {
                tid,
                ..Fault::default()
            },
            process: None,
            thread: None,
            place: None,
            code: None,
            kind: Kind::ZeroFill,
            fate,
            duration_ns: None,
        }))
    }

    fn counter(counter: Counter, count: u64) -> Row {
        Row::Counter(CounterRow {
            counter,
            time_ns: 10,
            cpu: None,
            count,
        })
    }

    fn report(rows: impl IntoIterator<Item = Row>) -> (String, bool) {
        report_of(None, rows)
    }

    fn report_of(told: Option<Account>, rows: impl IntoIterator<Item = Row>) -> (String, bool) {
        let mut balance = Balance::new(told);
        for row in rows {
            balance.add(&row);
        }
        let report = balance.close();
        (report.lines.join("\n"), report.closes)
    }

    fn ended(mut rows: Vec<Row>) -> Vec<Row> {
        let faults = rows
            .iter()
            .filter(|row| matches!(row, Row::Fault(_)))
            .count() as u64;
        for name in [Counter::Hits, Counter::Recorded, Counter::End] {
            rows.push(counter(name, faults));
        }
        rows
    }

    #[test]
    fn a_whole_trace_balances() {
        let (text, closes) = report(ended(vec![
            thread(ThreadEvent::Fork, 8, 0, 0),
            fault(8, Fate::Minor),
            fault(8, Fate::Retried),
            fault(8, Fate::Major),
            fault(8, Fate::Failed),
            thread(ThreadEvent::Exit, 8, 1, 1),
        ]));
        assert!(closes, "{text}");
        assert!(text.contains("difference 0"));
    }

    #[test]
    fn the_metadata_is_compared_with_the_rows() {
        let rows = || {
            ended(vec![
                thread(ThreadEvent::Fork, 8, 0, 0),
                fault(8, Fate::Minor),
                thread(ThreadEvent::Exit, 8, 1, 0),
            ])
        };
        let account = |hits| Account {
            hits,
            recorded: 1,
            ..Account::default()
        };
        let (text, closes) = report_of(Some(account(1)), rows());
        assert!(closes, "{text}");
        let (text, closes) = report_of(Some(account(2)), rows());
        assert!(
            !closes && text.contains("the metadata tells another account"),
            "{text}"
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let (text, closes) = report(ended(vec![
            thread(ThreadEvent::Fork, 8, 0, 0),
            fault(8, Fate::Minor),
            thread(ThreadEvent::Exit, 8, 4, 1),
        ]));
        assert!(!closes);
        assert!(
            text.contains("thread 8 (x)") && text.contains(": 4 missing"),
            "{text}"
        );
    }

    #[test]
    fn faults_of_unknown_fate_are_not_missing() {
        let (text, closes) = report(ended(vec![
            thread(ThreadEvent::Fork, 8, 0, 0),
            fault(8, Fate::Unknown),
            thread(ThreadEvent::Exit, 8, 4, 0),
        ]));
        assert!(!closes);
        assert!(text.contains("1 of unknown fate: 3 missing"), "{text}");
        assert!(text.ends_with("difference 3 over 1 thread"), "{text}");
    }

    #[test]
    fn a_fault_under_way_at_the_beginning_is_explained() {
        let gap = Row::Gap(GapRow {
            time_ns: 0,
            end_ns: 0,
            cpu: 0,
            pid: 7,
            tid: 8,
            count: 1,
        });
        let (text, closes) = report(ended(vec![
            thread(ThreadEvent::Present, 8, 100, 0),
            gap.clone(),
            fault(8, Fate::Minor),
            thread(ThreadEvent::Exit, 8, 102, 0),
        ]));
        assert!(closes && text.contains("under way"), "{text}");
        // Of a thread that was made while it was traced, there is no such excuse.
        let (text, closes) = report(ended(vec![
            thread(ThreadEvent::Fork, 8, 100, 0),
            gap,
            fault(8, Fate::Minor),
            thread(ThreadEvent::Exit, 8, 102, 0),
        ]));
        assert!(!closes, "{text}");
    }

    #[test]
    fn losses_cut_ends_and_unknown_beginnings_do_not_close() {
        let lost = Row::Lost(LostRow {
            how: Loss::Dropped,
            cpu: 3,
            time_ns: 5,
            end_ns: 6,
            count: 2,
        });
        for (row, words) in [
            (lost, "lost: 2 faults on CPU 3 from 5 to 6 ns"),
            (
                thread(ThreadEvent::Exit, 8, 4, 1),
                "beginning is not in the trace",
            ),
            (counter(Counter::Missed, 1), "1 missed"),
        ] {
            let (text, closes) = report(ended(vec![row]));
            assert!(!closes && text.contains(words), "{text}");
        }
        let (text, closes) = report([]);
        assert!(!closes && text.contains("cut off"), "{text}");
    }

    #[test]
    fn threads_that_are_there_at_the_end_are_checked_up_to_then() {
        let rows = |end| {
            ended(vec![
                thread(ThreadEvent::Fork, 8, 0, 0),
                fault(8, Fate::Minor),
                thread(ThreadEvent::Alive, 8, end, 0),
                fault(8, Fate::Minor),
                fault(8, Fate::Unknown),
            ])
        };
        let (text, closes) = report(rows(1));
        assert!(closes && text.contains("1 of them still ran"), "{text}");
        assert!(!text.contains("checked up to the last"), "{text}");
        let (text, closes) = report(rows(3));
        assert!(!closes && text.contains(": 2 missing"), "{text}");
        // It may end in the last moment.
        let mut rows = rows(1);
        rows.push(thread(ThreadEvent::Exit, 8, 3, 0));
        let (text, closes) = report(rows);
        assert!(closes && text.contains("1 thread from beginning"), "{text}");
    }

    #[test]
    fn a_thread_may_be_executing_a_program_when_the_recording_ends() {
        let of_leader = |event| match thread(event, 7, 0, 0) {
            Row::Thread(row) => Row::Thread(Box::new(ThreadRow { pid: 7, ..*row })),
            other => other,
        };
        let mut rows = vec![
            thread(ThreadEvent::Fork, 7, 0, 0),
            thread(ThreadEvent::Fork, 8, 0, 0),
            of_leader(ThreadEvent::Exit),
        ];
        let taking_over = [
            of_leader(ThreadEvent::Rename),
            fault(7, Fate::Minor),
            of_leader(ThreadEvent::Alive),
        ];
        let (text, closes) = report(ended(rows.iter().cloned().chain(taking_over).collect()));
        assert!(closes, "{text}");
        // A fault of a thread that has ended is none of these.
        rows.push(fault(7, Fate::Minor));
        let (text, closes) = report(ended(rows));
        assert!(!closes, "{text}");
    }

    #[test]
    fn who_ends_while_the_recording_begins_is_no_part_of_it() {
        let present = |time_ns| match thread(ThreadEvent::Present, 9, 0, 0) {
            Row::Thread(row) => Row::Thread(Box::new(ThreadRow { time_ns, ..*row })),
            other => other,
        };
        for (time_ns, closes) in [(8, false), (9, true)] {
            let rows = vec![
                fault(8, Fate::Minor),
                thread(ThreadEvent::Exit, 8, 102, 0),
                present(time_ns),
            ];
            let (text, closed) = report(ended(rows));
            assert_eq!(closed, closes, "{text}");
        }
    }

    #[test]
    fn faults_before_a_thread_is_told_of_are_in_its_counters() {
        let (text, closes) = report(ended(vec![
            fault(8, Fate::Minor),
            thread(ThreadEvent::Present, 8, 101, 0),
            fault(8, Fate::Minor),
            thread(ThreadEvent::Exit, 8, 102, 0),
        ]));
        assert!(closes, "{text}");
    }

    #[test]
    fn durations_are_there_missed_or_under_way() {
        let timed = |tid, duration_ns| match fault(tid, Fate::Minor) {
            Row::Fault(mut fault) => {
                fault.duration_ns = duration_ns;
                Row::Fault(fault)
            }
            other => other,
        };
        let rows = |missed, last| {
            let mut rows = vec![
                thread(ThreadEvent::Fork, 8, 0, 0),
                timed(8, Some(5)),
                timed(8, None),
                timed(8, last),
            ];
            rows.push(counter(Counter::MissedReturns, missed));
            ended(rows)
        };
        for (missed, last, closes, words) in [
            (
                1,
                Some(3),
                true,
                "2 faults have one, 1 have none; 1 returns missed",
            ),
            (1, None, true, "1 under way at the end"),
            (
                2,
                None,
                true,
                "1 faults have one, 2 have none; 2 returns missed",
            ),
            (0, Some(3), false, "do not agree"),
            (0, None, false, "do not agree"),
            (3, None, false, "do not agree"),
        ] {
            let (text, closed) = report(rows(missed, last));
            assert!(closed == closes && text.contains(words), "{missed}: {text}");
        }
        // Of a thread that has ended, nothing is under way.
        let mut rows = rows(1, None);
        rows.push(thread(ThreadEvent::Exit, 8, 3, 0));
        assert!(!report(rows).1);
    }

    #[test]
    fn threads_that_go_on_are_no_difference() {
        let (text, closes) = report(ended(vec![
            thread(ThreadEvent::Fork, 8, 0, 0),
            fault(8, Fate::Unknown),
        ]));
        assert!(closes && text.contains("1 thread still ran"), "{text}");
    }
}
