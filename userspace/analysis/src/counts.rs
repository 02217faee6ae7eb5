// SPDX-License-Identifier: GPL-2.0-only

//! What is counted of any set of faults.

use fault_tracer_trace::{Fate, ResolvedFault, Row};

/// Powers of two that durations are counted by: the last holds all that are longer, from about 9 minutes.
pub const POWERS: usize = 40;

/// Counts of some faults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Faults.
    pub faults: u64,
    /// Of them, major ones.
    pub major: u64,
    /// Of them, those with a duration.
    pub timed: u64,
    /// Sum of the durations, in nanoseconds.
    pub time_ns: u64,
    /// Sum of the durations of the major ones, in nanoseconds.
    pub major_time_ns: u64,
    /// The longest, in nanoseconds.
    pub longest_ns: u64,
}

impl Counts {
    /// Adds a fault.
    pub fn add(&mut self, fault: &ResolvedFault) {
        self.faults += 1;
        let major = fault.fate == Fate::Major;
        self.major += u64::from(major);
        if let Some(duration_ns) = fault.duration_ns {
            self.timed += 1;
            self.time_ns = self.time_ns.saturating_add(duration_ns);
            if major {
                self.major_time_ns = self.major_time_ns.saturating_add(duration_ns);
            }
            self.longest_ns = self.longest_ns.max(duration_ns);
        }
    }

    /// Adds those of others.
    pub fn merge(&mut self, other: &Self) {
        self.faults += other.faults;
        self.major += other.major;
        self.timed += other.timed;
        self.time_ns = self.time_ns.saturating_add(other.time_ns);
        self.major_time_ns = self.major_time_ns.saturating_add(other.major_time_ns);
        self.longest_ns = self.longest_ns.max(other.longest_ns);
    }

    /// Mean duration of those that have one, in nanoseconds.
    pub fn mean_ns(&self) -> Option<u64> {
        self.time_ns.checked_div(self.timed)
    }
}

/// Durations by powers of two, exact: element n counts those from 2^n ns to below 2^(n + 1) ns, the first one those of
/// 0 ns, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Powers(pub [u64; POWERS]);

impl Default for Powers {
    fn default() -> Self {
        Self([0; POWERS])
    }
}

impl Powers {
    /// Adds a duration.
    pub fn add(&mut self, duration_ns: u64) {
        let power = duration_ns.max(1).ilog2() as usize;
        self.0[power.min(POWERS - 1)] += 1;
    }

    /// Adds those of others.
    pub fn merge(&mut self, other: &Self) {
        for (sum, count) in self.0.iter_mut().zip(other.0) {
            *sum += count;
        }
    }

    /// The powers from the first to the last that is not 0, with their counts.
    pub fn used(&self) -> Vec<(u32, u64)> {
        let used = |count: &u64| *count != 0;
        let Some(first) = self.0.iter().position(used) else {
            return Vec::new();
        };
        let last = self.0.iter().rposition(used).unwrap_or(first);
        (first..=last)
            .map(|power| (power as u32, self.0[power]))
            .collect()
    }
}

/// The fault of a row, where the row is one: an attempt that has a row of its own is none.
pub fn fault_of(row: &Row) -> Option<&ResolvedFault> {
    match row {
        Row::Fault(fault) if fault.fate != Fate::Retried => Some(fault),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fault;

    #[test]
    fn counts_of_some_faults() {
        let mut counts = Counts::default();
        counts.add(&fault().build());
        counts.add(&fault().took(10).build());
        counts.add(&fault().took(30).fate(Fate::Major).build());
        let wanted = Counts {
            faults: 3,
            major: 1,
            timed: 2,
            time_ns: 40,
            major_time_ns: 30,
            longest_ns: 30,
        };
        assert_eq!(counts, wanted);
        assert_eq!(counts.mean_ns(), Some(20));
        let mut twice = counts.clone();
        twice.merge(&counts);
        assert_eq!((twice.faults, twice.time_ns, twice.longest_ns), (6, 80, 30));
    }

    #[test]
    fn powers_are_exact_at_their_borders() {
        let mut powers = Powers::default();
        for duration in [0, 1, 2, 1023, 1024, u64::MAX] {
            powers.add(duration);
        }
        let used = powers.used();
        assert_eq!(used[..2], [(0, 2), (1, 1)]);
        assert_eq!(used[9..11], [(9, 1), (10, 1)]);
        assert_eq!(used.last(), Some(&(POWERS as u32 - 1, 1)));
        powers.merge(&powers.clone());
        assert_eq!(powers.used()[..2], [(0, 4), (1, 2)]);
    }

    #[test]
    fn an_attempt_is_no_fault() {
        assert!(fault_of(&fault().fate(Fate::Retried).row()).is_none());
        assert!(fault_of(&fault().fate(Fate::Failed).row()).is_some());
    }
}
