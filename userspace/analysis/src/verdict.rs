// SPDX-License-Identifier: GPL-2.0-only

//! Whether a trace has every fault of its threads: found = counter at the end − counter at the beginning.

use rustc_hash::{FxHashMap, FxHashSet};

use fault_tracer_trace::{
    Account, Counter, CounterRow, Fate, Loss, LostRow, Row, ThreadEvent, ThreadRow,
};

/// More threads than this that do not balance are only counted.
const WRONG_MOST: usize = 20;

/// What can be said of a trace's completeness. [`Proof`] makes it.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Rows of faults.
    pub faults: u64,
    /// Attempts of these faults: entries into `handle_mm_fault`.
    pub attempts: u64,
    /// Threads whose counters at the beginning and at the end are in the trace.
    pub threads: u64,
    /// Of them, those that still ran when the recording was stopped.
    pub alive: u64,
    /// Of them, those that went on and were traced no more, by the rules of the recording. Who came back is counted again.
    pub left: u64,
    /// By how much the counters of these threads rose: minor and major faults.
    pub expected: (u64, u64),
    /// Faults of these threads in the trace.
    pub found: Found,
    /// Threads that were inside of a fault when the recording began: that fault is in their counters and no part
    /// of the recording.
    pub under_way: u64,
    /// Threads whose counters rose by another number than there are faults; the first 20.
    pub wrong: Vec<Wrong>,
    /// All such threads.
    pub wrong_threads: u64,
    /// Threads whose beginning alone is in the trace: their faults are proven from one to the next, by the low bits
    /// of the counters that each fault carries, up to the last one.
    pub open_threads: u64,
    /// Faults of these threads that are proven so.
    pub open_faults: u64,
    /// Faults that are missing of threads without an end, at least.
    pub open_gaps: u64,
    /// Threads that ended while the recording began, and are no part of it.
    pub ended_before: u64,
    /// Ids of the threads whose beginning is not in the trace, in ascending order. Nothing is proven of their faults.
    pub unbegun: Vec<u32>,
    /// Completed faults of these threads.
    pub unbegun_faults: u64,
    /// Faults that were lost, by the rows.
    pub losses: Vec<LostRow>,
    /// The account, by the rows.
    pub account: Account,
    /// The account in the metadata, if it is there.
    pub metadata_account: Option<Account>,
    /// Attempts that were written, as the trace's last row says; `None` in a trace that was cut off.
    pub end: Option<u64>,
    /// In recordings with durations.
    pub durations: Option<DurationCheck>,
    /// Whether a selection of the faults was recorded: then the threads' counters tell no more than how many were to be
    /// seen at least.
    pub is_selection: bool,
}

/// How a proof ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is missing.
    Complete,
    /// Something is missing, or may be.
    Incomplete,
    /// A selection of the faults was recorded, nothing of it is missing, and the probe saw as many as the counters rose by.
    Selection,
    /// Nothing could be proven: the trace has no thread whose counters say anything.
    NotProven,
}

/// Faults of a thread in the trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Those that the minor-fault counter rose for.
    pub minor: u64,
    /// Those that the major-fault counter rose for.
    pub major: u64,
    /// Those of unknown fate.
    pub unknown: u64,
}

impl Found {
    /// All of them. Those of unknown fate are taken for completed: most are, and they stand beside gaps.
    pub fn all(&self) -> i128 {
        i128::from(self.minor) + i128::from(self.major) + i128::from(self.unknown)
    }

    /// Those whose fate is known to be one that a counter rose for.
    pub fn completed(&self) -> u64 {
        self.minor.saturating_add(self.major)
    }

    fn add(&mut self, other: &Self) {
        self.minor += other.minor;
        self.major += other.major;
        self.unknown += other.unknown;
    }
}

/// A thread that does not balance.
#[derive(Clone, Debug)]
pub struct Wrong {
    /// Its last row.
    pub thread: ThreadRow,
    /// Its faults.
    pub found: Found,
    /// By how much its counters rose: minor and major faults.
    pub expected: (u64, u64),
}

impl Wrong {
    /// Faults that are missing; below 0 where there are too many.
    pub fn missing(&self) -> i128 {
        i128::from(self.expected.0) + i128::from(self.expected.1) - self.found.all()
    }
}

/// Whether the durations in a trace are as many as the module's account says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DurationCheck {
    /// Attempts whose return is in the trace.
    pub with: u64,
    /// Attempts whose return is not.
    pub without: u64,
    /// Returns that the module could not record, as it counts.
    pub missed: u64,
    /// Threads whose last attempt may still have been under way at the end.
    pub open: u64,
    /// Whether records were overwritten: returns may be among them, so that the numbers need not agree.
    pub overwritten: bool,
}

impl DurationCheck {
    /// Attempts that were under way at the end, if the numbers agree: with + missed + under way = all.
    pub fn under_way(&self) -> Option<u64> {
        self.without
            .checked_sub(self.missed)
            .filter(|&under_way| under_way <= self.open)
    }

    /// Whether the numbers agree as far as they can.
    pub fn agrees(&self) -> bool {
        self.overwritten || self.under_way().is_some()
    }
}

impl Verdict {
    /// Faults that are proven: nothing is missing between them and the beginning of their threads.
    pub fn proven(&self) -> u64 {
        self.found.completed().saturating_add(self.open_faults)
    }

    /// Faults by which the threads' counters and the trace differ.
    pub fn difference(&self) -> i128 {
        let (min, maj) = self.expected;
        i128::from(min) + i128::from(maj) - i128::from(self.under_way) - self.found.all()
    }

    /// Faults that were dropped, by the rows of the losses.
    pub fn dropped_by_rows(&self) -> u64 {
        let dropped = self.losses.iter().filter(|lost| lost.how == Loss::Dropped);
        dropped.fold(0, |sum, lost| sum.saturating_add(lost.count))
    }

    /// Whether the account of the rows is that of the metadata, where it is there.
    pub fn accounts_agree(&self) -> bool {
        self.metadata_account
            .is_none_or(|account| account == self.account)
    }

    /// How the proof ends.
    pub fn outcome(&self) -> Outcome {
        let Account {
            hits,
            recorded,
            dropped,
            overwritten,
            missed,
            sideband_dropped,
            deaf,
            passed_over: _,
        } = self.account;
        let account_closes = self.end == Some(self.attempts)
            && recorded == self.attempts
            && hits == recorded
            && dropped | overwritten | missed | sideband_dropped | deaf == 0
            && self.accounts_agree();
        let threads_close = self.wrong_threads == 0
            && self.unbegun.is_empty()
            && self.open_gaps == 0
            && self.losses.is_empty();
        if self.is_selection {
            let (min, maj) = self.expected;
            let rose = u128::from(min) + u128::from(maj);
            // Attempts that completed nothing were seen, and no counter rose for them.
            let all_seen =
                rose.saturating_sub(self.under_way.into()) <= u128::from(self.account.seen());
            return if account_closes && self.losses.is_empty() && all_seen {
                Outcome::Selection
            } else {
                Outcome::Incomplete
            };
        }
        let durations_close = self.durations.is_none_or(|check| check.agrees());
        if !(account_closes && threads_close && durations_close) {
            Outcome::Incomplete
        } else if self.threads == 0 && self.proven() == 0 {
            Outcome::NotProven
        } else {
            Outcome::Complete
        }
    }
}

/// Adds up the rows of a trace, in their order.
#[derive(Debug, Default)]
pub struct Proof {
    threads: FxHashMap<u32, Open>,
    /// Threads that ended and whose beginning is not there.
    unbegun: Vec<Unbegun>,
    /// First threads of processes that have ended, by their ids.
    ended_leaders: FxHashSet<u32>,
    /// Time of the last row of a thread that was there at the beginning.
    last_present_ns: Option<u64>,
    /// Attempts with and without a return; `missed` is `None` where durations were not asked for.
    returns: u64,
    missed_returns: Option<u64>,
    /// Threads whose last attempt has no return, and which have not ended since.
    under_way: FxHashSet<u32>,
    /// As far as it is known.
    verdict: Verdict,
}

/// A thread that ended, and whose beginning is not in the trace.
#[derive(Debug)]
struct Unbegun {
    tid: u32,
    end_ns: u64,
    faults: u64,
}

/// A thread that has not ended yet.
#[derive(Debug, Default)]
struct Open {
    /// Its counters at the beginning, if that is in the trace, and whether it was there before.
    start: Option<(u64, u64)>,
    present: bool,
    /// It was checked at the end of the recording, or when it was traced no more: what comes behind is not.
    checked: bool,
    /// It is traced no more, until it is present again.
    has_left: bool,
    /// It executes a program and has taken the id of its process's first thread, under which it has no
    /// beginning; it is joined with what it was before when it has executed.
    takes_over: bool,
    found: Found,
    gaps: u64,
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

impl Proof {
    /// Nothing yet of a trace with that account in its metadata, if it has one.
    pub fn new(metadata_account: Option<Account>) -> Self {
        Self {
            verdict: Verdict {
                metadata_account,
                ..Verdict::default()
            },
            ..Self::default()
        }
    }

    /// Says whether a selection of the faults was recorded.
    #[must_use]
    pub fn with_selection(mut self, is_selection: bool) -> Self {
        self.verdict.is_selection = is_selection;
        self
    }

    /// Adds the next row.
    pub fn add(&mut self, row: &Row) {
        match row {
            Row::Fault(fault) => {
                let tid = fault.fault.tid;
                self.verdict.faults += 1;
                self.verdict.attempts += u64::from(fault.attempts);
                self.returns += u64::from(fault.returns);
                if fault.duration_ns.is_some() {
                    self.under_way.remove(&tid);
                } else {
                    self.under_way.insert(tid);
                }
                let found = &mut self.threads.entry(tid).or_default().found;
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
                let gaps = &mut self.threads.entry(gap.tid).or_default().gaps;
                *gaps = gaps.saturating_add(gap.count);
            }
            Row::Lost(lost) => self.verdict.losses.push(lost.clone()),
            Row::Counter(row) => self.counter(row),
            Row::Pending(_) | Row::Text(_) | Row::Frame(_) => {}
        }
    }

    fn counter(&mut self, row: &CounterRow) {
        if !row.add_to(&mut self.verdict.account) {
            match row.counter {
                Counter::MissedReturns => self.missed_returns = Some(row.count),
                _ => self.verdict.end = Some(row.count),
            }
        }
    }

    fn thread(&mut self, row: &ThreadRow) {
        let counters = (row.min_flt, row.maj_flt);
        let tells_of_one_there = matches!(
            row.event,
            ThreadEvent::Rename | ThreadEvent::Exit | ThreadEvent::Alive | ThreadEvent::Left
        );
        if tells_of_one_there && counters == (0, 0) && !self.ended_leaders.contains(&row.tid) {
            // It has had no fault before, whoever has made it: of the kernel's own workers in a process, as those of
            // io_uring, no fork is told.
            let thread = self.threads.entry(row.tid).or_default();
            thread.start.get_or_insert(counters);
        }
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
                if thread.start.is_none() || thread.has_left {
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
                        // It may have had the new id for some faults before this row.
                        if let Some(new) = self.threads.remove(&row.tid) {
                            if new.start.is_none() {
                                thread.found.add(&new.found);
                                thread.gaps = thread.gaps.saturating_add(new.gaps);
                            } else if thread.start.is_none() {
                                // It was listed in between.
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
                self.under_way.remove(&row.tid);
                if row.tid == row.pid {
                    self.ended_leaders.insert(row.tid);
                }
                let thread = self.threads.remove(&row.tid).unwrap_or_default();
                if thread.start.is_none() {
                    self.unbegun.push(Unbegun {
                        tid: row.tid,
                        end_ns: row.time_ns,
                        faults: thread.found.completed(),
                    });
                } else if !thread.checked {
                    self.check(row, &thread);
                }
            }
            ThreadEvent::Alive | ThreadEvent::Left => {
                let has_left = row.event == ThreadEvent::Left;
                let thread = self.threads.remove(&row.tid).unwrap_or_default();
                if thread.start.is_some() && !thread.checked {
                    self.check(row, &thread);
                    let count = if has_left {
                        &mut self.verdict.left
                    } else {
                        &mut self.verdict.alive
                    };
                    *count += 1;
                }
                let checked = Open {
                    start: thread.start,
                    checked: true,
                    has_left,
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
        let verdict = &mut self.verdict;
        verdict.threads += 1;
        let mut expected = (row.min_flt.wrapping_sub(min), row.maj_flt.wrapping_sub(maj));
        let found = thread.found;
        verdict.found.add(&found);
        verdict.expected.0 = verdict.expected.0.wrapping_add(expected.0);
        verdict.expected.1 = verdict.expected.1.wrapping_add(expected.1);
        let total = expected.0.wrapping_add(expected.1);
        if thread.present && thread.gaps == 1 && total == found.completed() + 1 {
            // The thread was inside of a fault when the recording began.
            verdict.under_way += 1;
            expected = (found.minor, found.major);
        }
        if !verdict.is_selection && expected != (found.minor, found.major) {
            verdict.wrong_threads += 1;
            if verdict.wrong.len() < WRONG_MOST {
                verdict.wrong.push(Wrong {
                    thread: row.clone(),
                    found,
                    expected,
                });
            }
        }
    }

    /// Ends the trace.
    pub fn close(self) -> Verdict {
        let mut verdict = self.verdict;
        // Some end while the recording begins and the processes that are there are listed.
        let (before, late): (Vec<_>, Vec<_>) = self
            .unbegun
            .into_iter()
            .partition(|thread| self.last_present_ns >= Some(thread.end_ns));
        verdict.ended_before = before.len() as u64;
        verdict.unbegun_faults = late.iter().map(|thread| thread.faults).sum();
        verdict.unbegun = late.into_iter().map(|thread| thread.tid).collect();
        for (tid, thread) in &self.threads {
            verdict.open_gaps = verdict.open_gaps.saturating_add(thread.unexplained_gaps());
            if thread.start.is_none() && !thread.takes_over {
                verdict.unbegun.push(*tid);
                verdict.unbegun_faults += thread.found.completed();
            } else if !thread.checked {
                verdict.open_threads += u64::from(thread.start.is_some());
                verdict.open_faults += thread.found.completed();
            }
        }
        verdict.unbegun.sort_unstable();
        verdict.durations = self.missed_returns.map(|missed| DurationCheck {
            with: self.returns,
            without: verdict.attempts.saturating_sub(self.returns),
            missed,
            open: self.under_way.len() as u64,
            overwritten: verdict
                .losses
                .iter()
                .any(|lost| lost.how == Loss::Overwritten),
        });
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fault_tracer_trace::{Fault, GapRow, ResolvedFault};

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
            fate,
            ..ResolvedFault::default()
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

    fn verdict(rows: impl IntoIterator<Item = Row>) -> Verdict {
        verdict_with(None, rows)
    }

    fn verdict_with(
        metadata_account: Option<Account>,
        rows: impl IntoIterator<Item = Row>,
    ) -> Verdict {
        let mut proof = Proof::new(metadata_account);
        for row in rows {
            proof.add(&row);
        }
        proof.close()
    }

    fn is_complete(verdict: &Verdict) -> bool {
        verdict.outcome() == Outcome::Complete
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
        let verdict = verdict(ended(vec![
            thread(ThreadEvent::Fork, 8, 0, 0),
            fault(8, Fate::Minor),
            fault(8, Fate::Retried),
            fault(8, Fate::Major),
            fault(8, Fate::Failed),
            thread(ThreadEvent::Exit, 8, 1, 1),
        ]));
        assert!(is_complete(&verdict), "{verdict:?}");
        assert_eq!((verdict.proven(), verdict.difference()), (2, 0));
    }

    #[test]
    fn each_stay_of_a_thread_is_checked_by_itself() {
        let stays = |second| {
            verdict(ended(vec![
                thread(ThreadEvent::Present, 8, 10, 0),
                fault(8, Fate::Minor),
                thread(ThreadEvent::Left, 8, 11, 0),
                // On its way when it left: nobody can say whether it completed.
                fault(8, Fate::Unknown),
                thread(ThreadEvent::Present, 8, 50, 3),
                fault(8, Fate::Minor),
                thread(ThreadEvent::Exit, 8, second, 3),
            ]))
        };
        let whole = stays(51);
        assert!(is_complete(&whole), "{whole:?}");
        assert_eq!((whole.threads, whole.left, whole.alive), (2, 1, 0));
        assert_eq!((whole.proven(), whole.difference()), (2, 0));
        let missing = stays(52);
        assert_eq!(
            (missing.outcome(), missing.wrong_threads),
            (Outcome::Incomplete, 1)
        );
    }

    #[test]
    fn a_selection_is_whole_or_not() {
        let of = |recorded, passed_over, rose| {
            let mut proof = Proof::new(None).with_selection(true);
            for row in [
                thread(ThreadEvent::Fork, 8, 0, 0),
                fault(8, Fate::Unknown),
                fault(8, Fate::Unknown),
                thread(ThreadEvent::Exit, 8, rose, 0),
                counter(Counter::Hits, recorded),
                counter(Counter::Recorded, recorded),
                counter(Counter::PassedOver, passed_over),
                counter(Counter::End, 2),
            ] {
                proof.add(&row);
            }
            proof.close().outcome()
        };
        assert_eq!(of(2, 98, 100), Outcome::Selection);
        // Attempts that completed nothing.
        assert_eq!(of(2, 98, 90), Outcome::Selection);
        // More happened than were seen.
        assert_eq!(of(2, 98, 101), Outcome::Incomplete);
        // More were recorded than are there.
        assert_eq!(of(3, 97, 100), Outcome::Incomplete);
    }

    #[test]
    fn the_attempts_of_a_fault_are_what_was_recorded() {
        let rows = |hits| {
            let joined = ResolvedFault {
                attempts: 3,
                fate: Fate::Major,
                fault: Fault {
                    tid: 8,
                    ..Fault::default()
                },
                ..ResolvedFault::default()
            };
            vec![
                thread(ThreadEvent::Fork, 8, 0, 0),
                Row::Fault(Box::new(joined)),
                thread(ThreadEvent::Exit, 8, 0, 1),
                counter(Counter::Hits, hits),
                counter(Counter::Recorded, hits),
                counter(Counter::End, hits),
            ]
        };
        let whole = verdict(rows(3));
        assert!(is_complete(&whole), "{whole:?}");
        assert_eq!((whole.faults, whole.attempts), (1, 3));
        assert!(!is_complete(&verdict(rows(1))));
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
        assert!(is_complete(&verdict_with(Some(account(1)), rows())));
        let other = verdict_with(Some(account(2)), rows());
        assert!(!is_complete(&other) && !other.accounts_agree());
    }

    #[test]
    fn what_is_missing_is_named() {
        let verdict = verdict(ended(vec![
            thread(ThreadEvent::Fork, 8, 0, 0),
            fault(8, Fate::Minor),
            thread(ThreadEvent::Exit, 8, 4, 1),
        ]));
        assert!(!is_complete(&verdict));
        let [wrong] = &verdict.wrong[..] else {
            panic!("{verdict:?}");
        };
        assert_eq!((wrong.thread.tid, wrong.missing()), (8, 4));
    }

    #[test]
    fn faults_of_unknown_fate_are_not_missing() {
        let verdict = verdict(ended(vec![
            thread(ThreadEvent::Fork, 8, 0, 0),
            fault(8, Fate::Unknown),
            thread(ThreadEvent::Exit, 8, 4, 0),
        ]));
        assert!(!is_complete(&verdict));
        assert_eq!(verdict.wrong[0].missing(), 3);
        assert_eq!((verdict.difference(), verdict.proven()), (3, 0));
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
        let rows = |event| {
            ended(vec![
                thread(event, 8, 100, 0),
                gap.clone(),
                fault(8, Fate::Minor),
                thread(ThreadEvent::Exit, 8, 102, 0),
            ])
        };
        let present = verdict(rows(ThreadEvent::Present));
        assert!(
            is_complete(&present) && present.under_way == 1,
            "{present:?}"
        );
        // Of a thread that was made while it was traced, there is no such excuse.
        assert!(!is_complete(&verdict(rows(ThreadEvent::Fork))));
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
        let of_lost = verdict(ended(vec![lost]));
        assert_eq!(
            (of_lost.outcome(), of_lost.dropped_by_rows()),
            (Outcome::Incomplete, 2)
        );
        let unbegun = verdict(ended(vec![thread(ThreadEvent::Exit, 8, 4, 1)]));
        assert_eq!(
            (unbegun.outcome(), &unbegun.unbegun[..]),
            (Outcome::Incomplete, &[8][..])
        );
        let missed = verdict(ended(vec![counter(Counter::Missed, 1)]));
        assert_eq!(missed.outcome(), Outcome::Incomplete);
        let cut_off = verdict([]);
        assert_eq!(
            (cut_off.outcome(), cut_off.end),
            (Outcome::Incomplete, None)
        );
    }

    #[test]
    fn a_thread_without_faults_begins_wherever_it_is_told_of() {
        let worker = |faults: u64| {
            let mut rows = vec![thread(ThreadEvent::Rename, 8, 0, 0)];
            rows.extend((0..faults).map(|_| fault(8, Fate::Minor)));
            rows.push(thread(ThreadEvent::Exit, 8, faults, 0));
            verdict(ended(rows))
        };
        for faults in [0, 3] {
            let worker = worker(faults);
            assert!(is_complete(&worker) && worker.threads == 1, "{worker:?}");
        }
        let late = verdict(ended(vec![
            thread(ThreadEvent::Rename, 8, 2, 0),
            thread(ThreadEvent::Exit, 8, 2, 0),
        ]));
        assert_eq!(late.unbegun, [8]);
    }

    #[test]
    fn nothing_is_proven_by_nothing() {
        assert_eq!(verdict(ended(vec![])).outcome(), Outcome::NotProven);
    }

    #[test]
    fn faults_of_threads_without_an_end_are_proven_by_the_next_one() {
        // A recording that was killed: no end, no account.
        let verdict = verdict(vec![
            thread(ThreadEvent::Fork, 8, 0, 0),
            fault(8, Fate::Minor),
            fault(8, Fate::Minor),
            fault(8, Fate::Unknown),
        ]);
        assert_eq!(verdict.outcome(), Outcome::Incomplete);
        assert_eq!((verdict.open_threads, verdict.proven()), (1, 2));
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
        let alive = verdict(rows(1));
        assert!(is_complete(&alive), "{alive:?}");
        assert_eq!((alive.alive, alive.open_threads), (1, 0));
        let missing = verdict(rows(3));
        assert_eq!(missing.wrong[0].missing(), 2);
        // It may end in the last moment.
        let mut rows = rows(1);
        rows.push(thread(ThreadEvent::Exit, 8, 3, 0));
        let ended = verdict(rows);
        assert!(is_complete(&ended) && ended.threads == 1, "{ended:?}");
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
        let taken = verdict(ended(rows.iter().cloned().chain(taking_over).collect()));
        assert!(is_complete(&taken), "{taken:?}");
        // A fault of a thread that has ended is none of these.
        rows.push(fault(7, Fate::Minor));
        assert!(!is_complete(&verdict(ended(rows))));
    }

    #[test]
    fn who_ends_while_the_recording_begins_is_no_part_of_it() {
        let present = |time_ns| match thread(ThreadEvent::Present, 9, 0, 0) {
            Row::Thread(row) => Row::Thread(Box::new(ThreadRow { time_ns, ..*row })),
            other => other,
        };
        for (time_ns, closes) in [(8, false), (9, true)] {
            let verdict = verdict(ended(vec![
                fault(8, Fate::Minor),
                thread(ThreadEvent::Exit, 8, 102, 0),
                present(time_ns),
                thread(ThreadEvent::Exit, 9, 0, 0),
            ]));
            assert_eq!(is_complete(&verdict), closes, "{verdict:?}");
        }
    }

    #[test]
    fn faults_before_the_row_of_their_thread_are_in_its_counters() {
        let verdict = verdict(ended(vec![
            fault(8, Fate::Minor),
            thread(ThreadEvent::Present, 8, 101, 0),
            fault(8, Fate::Minor),
            thread(ThreadEvent::Exit, 8, 102, 0),
        ]));
        assert!(is_complete(&verdict), "{verdict:?}");
    }

    #[test]
    fn durations_are_there_missed_or_under_way() {
        let timed = |tid, duration_ns: Option<u64>| match fault(tid, Fate::Minor) {
            Row::Fault(mut fault) => {
                fault.duration_ns = duration_ns;
                fault.returns = duration_ns.is_some().into();
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
        for (missed, last, with, under_way) in [
            (1, Some(3), 2, Some(0)),
            (1, None, 1, Some(1)),
            (2, None, 1, Some(0)),
            (0, Some(3), 2, None),
            (0, None, 1, None),
            (3, None, 1, None),
        ] {
            let verdict = verdict(rows(missed, last));
            let check = verdict.durations.expect("durations were asked for");
            assert_eq!((check.with, check.under_way()), (with, under_way));
            assert_eq!(is_complete(&verdict), under_way.is_some(), "{check:?}");
        }
        // Of a thread that has ended, nothing is under way.
        let mut rows = rows(1, None);
        rows.push(thread(ThreadEvent::Exit, 8, 3, 0));
        assert!(!is_complete(&verdict(rows)));
    }

    #[test]
    fn threads_that_go_on_are_no_difference() {
        let verdict = verdict(ended(vec![
            thread(ThreadEvent::Fork, 8, 0, 0),
            fault(8, Fate::Minor),
            fault(8, Fate::Unknown),
        ]));
        assert!(is_complete(&verdict) && verdict.open_threads == 1);
    }
}
