// SPDX-License-Identifier: GPL-2.0-only

//! The CPUs' records in one order of time, while they are being recorded.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
};

use fault_tracer_uapi::FaultRecord;

/// What has a time.
pub trait Timed {
    /// Its time, in nanoseconds.
    fn time_ns(&self) -> u64;
}

impl Timed for FaultRecord {
    fn time_ns(&self) -> u64 {
        self.time_ns
    }
}

/// Merges the CPUs' records by time, as they come.
///
/// Each CPU's records come in order of time ([`Merge::push`]). A record may leave only when no CPU can
/// still bring an earlier one. That is known of a CPU in two ways: its records do not go back behind
/// the last one it brought; and when its ring was found empty, what it brings later is not older than
/// the horizon of that moment ([`Merge::caught_up`], [`crate::settle`]).
///
/// Records of the same time leave in the order of their CPUs.
#[derive(Clone, Debug)]
pub struct Merge<T> {
    cpus: Vec<Cpu<T>>,
    /// CPUs with records, by the time of the next.
    heads: BinaryHeap<Reverse<(u64, usize)>>,
    emitted_to: u64,
    pending: usize,
    late: u64,
}

#[derive(Clone, Debug)]
struct Cpu<T> {
    records: VecDeque<T>,
    /// Nothing older comes from this CPU.
    bound: u64,
}

impl<T: Timed> Merge<T> {
    /// A merge of the CPUs `0..cpus`.
    pub fn new(cpus: u32) -> Self {
        let cpu = || Cpu {
            records: VecDeque::new(),
            bound: 0,
        };
        Self {
            cpus: std::iter::repeat_with(cpu).take(cpus as usize).collect(),
            heads: BinaryHeap::new(),
            emitted_to: 0,
            pending: 0,
            late: 0,
        }
    }

    /// Adds the next record of a CPU.
    ///
    /// # Panics
    ///
    /// If there is no such CPU.
    #[inline]
    pub fn push(&mut self, cpu: u32, record: T) {
        let cpu = cpu as usize;
        let queue = &mut self.cpus[cpu];
        let last = queue.records.back().map_or(0, T::time_ns);
        let time = record.time_ns();
        if time < last.max(self.emitted_to) {
            self.late += 1;
        }
        if queue.records.is_empty() {
            self.heads.push(Reverse((time, cpu)));
        }
        queue.bound = queue.bound.max(time);
        queue.records.push_back(record);
        self.pending += 1;
    }

    /// Notes that a CPU's ring was found empty, and that what it records from then on has times of
    /// `horizon` or later.
    ///
    /// # Panics
    ///
    /// If there is no such CPU.
    pub fn caught_up(&mut self, cpu: u32, horizon: u64) {
        let bound = &mut self.cpus[cpu as usize].bound;
        *bound = horizon.max(*bound);
    }

    /// Gives out, in order of time, the records that no earlier one can precede any more.
    ///
    /// # Errors
    ///
    /// The first error of `out`. The record that it failed on counts as given out.
    pub fn emit<E>(
        &mut self,
        out: impl FnMut(u32, T) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let limit = self.cpus.iter().map(|cpu| cpu.bound).min().unwrap_or(0);
        self.emit_before(limit, out)
    }

    /// Gives out all the records there are, in order of time: nothing else will come.
    ///
    /// # Errors
    ///
    /// As [`Merge::emit`].
    pub fn finish<E>(
        &mut self,
        out: impl FnMut(u32, T) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        self.emit_before(u64::MAX, out)
    }

    fn emit_before<E>(
        &mut self,
        limit: u64,
        mut out: impl FnMut(u32, T) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        while let Some(&Reverse((time, cpu))) = self.heads.peek() {
            if time >= limit {
                break;
            }
            self.heads.pop();
            // The records of this CPU up to the next of any other leave in one go; at the same time, those
            // of the first CPU do.
            let end = match self.heads.peek() {
                Some(&Reverse((time, other))) if other < cpu => time,
                Some(&Reverse((time, _))) => time.saturating_add(1),
                None => limit,
            }
            .min(limit);
            let queue = &mut self.cpus[cpu].records;
            let before = queue.len();
            let mut result = Ok(());
            while let Some(time) = queue.front().map(T::time_ns) {
                if time >= end {
                    break;
                }
                self.emitted_to = self.emitted_to.max(time);
                let Some(record) = queue.pop_front() else {
                    break;
                };
                // CAST: an index below a number of CPUs that was a `u32`.
                result = out(cpu as u32, record);
                if result.is_err() {
                    break;
                }
            }
            self.pending -= before - queue.len();
            if let Some(record) = queue.front() {
                self.heads.push(Reverse((record.time_ns(), cpu)));
            }
            result?;
        }
        Ok(())
    }

    /// Records that wait to be given out.
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// Records that came after a later one had left or, on their own CPU, had come. They are given out
    /// all the same, out of order. Always 0 if the horizons were true.
    pub fn late(&self) -> u64 {
        self.late
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::convert::Infallible;

    fn record(time_ns: u64) -> FaultRecord {
        FaultRecord::from_words([0, time_ns, 0, 0])
    }

    fn drain(merge: &mut Merge<FaultRecord>, all: bool) -> Vec<(u64, u32)> {
        let mut out = Vec::new();
        let take = |cpu, record: FaultRecord| {
            out.push((record.time_ns, cpu));
            Ok::<_, Infallible>(())
        };
        let Ok(()) = if all {
            merge.finish(take)
        } else {
            merge.emit(take)
        };
        out
    }

    #[test]
    fn nothing_leaves_while_a_cpu_is_unknown() {
        let mut merge = Merge::new(2);
        merge.push(0, record(5));
        merge.caught_up(0, 10);
        assert_eq!(drain(&mut merge, false), []);
        assert_eq!(merge.pending(), 1);
        merge.caught_up(1, 6);
        assert_eq!(drain(&mut merge, false), [(5, 0)]);
        assert_eq!((merge.pending(), merge.late()), (0, 0));
    }

    #[test]
    fn a_busy_cpu_is_known_by_its_last_record() {
        let mut merge = Merge::new(2);
        for time in [1, 3, 7] {
            merge.push(0, record(time));
        }
        for time in [2, 5] {
            merge.push(1, record(time));
        }
        // CPU 1 may still bring a 5, so only what is before it is safe.
        assert_eq!(drain(&mut merge, false), [(1, 0), (2, 1), (3, 0)]);
        merge.push(1, record(5));
        merge.caught_up(1, 8);
        merge.caught_up(0, 8);
        assert_eq!(drain(&mut merge, false), [(5, 1), (5, 1), (7, 0)]);
        assert_eq!(merge.late(), 0);
    }

    #[test]
    fn an_earlier_horizon_does_not_take_back_a_later_bound() {
        let mut merge = Merge::new(1);
        merge.push(0, record(9));
        merge.caught_up(0, 4);
        merge.push(0, record(10));
        assert_eq!(drain(&mut merge, false), [(9, 0)]);
    }

    #[test]
    fn equal_times_leave_by_cpu() {
        let mut merge = Merge::new(3);
        for cpu in [2, 0, 1] {
            merge.push(cpu, record(4));
            merge.push(cpu, record(4));
        }
        assert_eq!(
            drain(&mut merge, true),
            [(4, 0), (4, 0), (4, 1), (4, 1), (4, 2), (4, 2)]
        );
    }

    #[test]
    fn late_records_are_counted_and_kept() {
        let mut merge = Merge::new(1);
        merge.push(0, record(9));
        assert_eq!(drain(&mut merge, true), [(9, 0)]);
        merge.push(0, record(3));
        assert_eq!(merge.late(), 1);
        assert_eq!(drain(&mut merge, true), [(3, 0)]);
    }

    #[test]
    fn an_error_loses_nothing_but_the_record_it_was_raised_for() {
        let mut merge = Merge::new(2);
        for time in 1..=3 {
            merge.push(0, record(time));
        }
        merge.push(1, record(2));
        assert_eq!(merge.finish(|_, _| Err("disk full")), Err("disk full"));
        assert_eq!(merge.pending(), 3);
        assert_eq!(drain(&mut merge, true), [(2, 0), (2, 1), (3, 0)]);
    }

    #[test]
    fn no_cpus_no_records() {
        assert_eq!(drain(&mut Merge::new(0), true), []);
    }

    /// What happens to a simulated machine.
    #[derive(Clone, Debug)]
    enum Step {
        /// Time passes, and a CPU records a fault.
        Fault {
            cpu: usize,
            after: u64,
        },
        /// The client takes up to so many records of a CPU, `usize::MAX` to empty its ring.
        Drain {
            cpu: usize,
            most: usize,
        },
        Emit,
    }

    const CPUS: usize = 3;

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let most = prop_oneof![Just(usize::MAX), 0..4usize];
        prop::collection::vec(
            prop_oneof![
                4 => (0..CPUS, 0..5u64).prop_map(|(cpu, after)| Step::Fault { cpu, after }),
                3 => (0..CPUS, most).prop_map(|(cpu, most)| Step::Drain { cpu, most }),
                1 => Just(Step::Emit),
            ],
            0..200,
        )
    }

    proptest! {
        #[test]
        fn everything_leaves_once_and_in_order(steps in steps()) {
            let mut merge = Merge::new(CPUS as u32);
            let mut rings = vec![VecDeque::new(); CPUS];
            let mut faults = Vec::new();
            let mut out = Vec::new();
            let mut now = 1;
            for step in steps {
                match step {
                    Step::Fault { cpu, after } => {
                        now += after;
                        rings[cpu].push_back(now);
                        faults.push((now, cpu as u32));
                    }
                    Step::Drain { cpu, most } => {
                        let horizon = now;
                        let count = most.min(rings[cpu].len());
                        for time in rings[cpu].drain(..count) {
                            merge.push(cpu as u32, record(time));
                        }
                        if rings[cpu].is_empty() {
                            merge.caught_up(cpu as u32, horizon);
                        }
                    }
                    Step::Emit => out.extend(drain(&mut merge, false)),
                }
            }
            for (cpu, ring) in rings.iter_mut().enumerate() {
                for time in ring.drain(..) {
                    merge.push(cpu as u32, record(time));
                }
            }
            out.extend(drain(&mut merge, true));
            faults.sort_unstable();
            prop_assert_eq!(out, faults);
            prop_assert_eq!(merge.late(), 0);
            prop_assert_eq!(merge.pending(), 0);
        }
    }
}
