// SPDX-License-Identifier: GPL-2.0-only

//! How long faults took, as histograms.

use fault_tracer_trace::{Kind, ResolvedFault};
use hdrhistogram::Histogram;

/// Of the histograms: a value is right to one part in a hundred.
const DIGITS: u8 = 2;

/// Durations of some faults, in nanoseconds.
#[derive(Clone, Debug)]
pub struct Durations {
    histogram: Histogram<u64>,
    sum_ns: u64,
    most_ns: u64,
}

impl Default for Durations {
    /// None yet.
    fn default() -> Self {
        Self {
            histogram: Histogram::new(DIGITS).expect("a number of digits that there can be"),
            sum_ns: 0,
            most_ns: 0,
        }
    }
}

impl Durations {
    /// Adds a duration.
    ///
    /// # Panics
    ///
    /// Never: the histogram grows, and 64 bits count any bucket.
    pub fn add(&mut self, duration_ns: u64) {
        // It grows as need be.
        self.histogram
            .record(duration_ns)
            .expect("64 bits count any bucket");
        self.sum_ns = self.sum_ns.saturating_add(duration_ns);
        self.most_ns = self.most_ns.max(duration_ns);
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// Their sum, exact.
    pub fn sum_ns(&self) -> u64 {
        self.sum_ns
    }

    /// The longest, exact.
    pub fn most_ns(&self) -> u64 {
        self.most_ns
    }

    /// The duration that a part (from 0 to 1) of them does not exceed, right to one part in a hundred; 0 if there are
    /// none.
    pub fn quantile_ns(&self, part: f64) -> u64 {
        // A bucket's upper end may lie beyond the longest.
        self.histogram.value_at_quantile(part).min(self.most_ns)
    }

    /// How many lie in each power of two: element n counts those from 2^n ns to below 2^(n + 1) ns, the first one those of
    /// 0 ns, too. It ends with the last that is not 0. A bucket at a border may count to the one beside it, by the histogram's one part in a hundred.
    pub fn powers_of_two(&self) -> Vec<u64> {
        let mut powers = Vec::new();
        for bucket in self.histogram.iter_recorded() {
            let power = bucket.value_iterated_to().max(1).ilog2() as usize;
            if powers.len() <= power {
                powers.resize(power + 1, 0);
            }
            powers[power] += bucket.count_since_last_iteration();
        }
        powers
    }
}

/// Durations of faults by their kinds.
#[derive(Clone, Debug, Default)]
pub struct DurationsByKind {
    /// By [`Kind::ALL`].
    kinds: [Option<Durations>; Kind::ALL.len()],
    without: u64,
}

impl DurationsByKind {
    /// Adds a fault.
    pub fn add(&mut self, fault: &ResolvedFault) {
        match fault.duration_ns {
            Some(duration_ns) => self.kinds[fault.kind as usize]
                .get_or_insert_default()
                .add(duration_ns),
            None => self.without += 1,
        }
    }

    /// The kinds that have durations, the most frequent first.
    pub fn kinds(&self) -> Vec<(Kind, &Durations)> {
        let mut kinds: Vec<_> = Kind::ALL
            .into_iter()
            .filter_map(|kind| Some((kind, self.kinds[kind as usize].as_ref()?)))
            .collect();
        kinds.sort_by_key(|(_, durations)| std::cmp::Reverse(durations.count()));
        kinds
    }

    /// Faults with a duration.
    pub fn with(&self) -> u64 {
        self.kinds.iter().flatten().map(Durations::count).sum()
    }

    /// Faults without one.
    pub fn without(&self) -> u64 {
        self.without
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_a_hundredth() {
        let mut durations = Durations::default();
        for duration in 1..=1000 {
            durations.add(duration * 1000);
        }
        let near = |part, wanted: u64| {
            let found = durations.quantile_ns(part);
            assert!(found.abs_diff(wanted) <= wanted / 100, "{part}: {found}");
        };
        near(0.5, 500_000);
        near(0.99, 990_000);
        assert_eq!(durations.quantile_ns(1.0), 1_000_000);
        assert_eq!(
            (durations.count(), durations.sum_ns(), durations.most_ns()),
            (1000, 500_500_000, 1_000_000)
        );
    }

    #[test]
    fn powers_of_two_count_all() {
        let mut durations = Durations::default();
        for duration in [0, 1, 3, 5, 700, 1_000_000] {
            durations.add(duration);
        }
        let powers = durations.powers_of_two();
        assert_eq!(powers.iter().sum::<u64>(), 6);
        assert_eq!(powers[..3], [2, 1, 1]);
        assert_eq!((powers[9], powers.len()), (1, 20));
    }

    #[test]
    fn kinds_are_kept_apart() {
        let mut durations = DurationsByKind::default();
        let mut fault = ResolvedFault::default();
        durations.add(&fault);
        fault.duration_ns = Some(5);
        durations.add(&fault);
        durations.add(&fault);
        fault.kind = Kind::FileRead;
        durations.add(&fault);
        let kinds = durations.kinds();
        let counts: Vec<_> = kinds.iter().map(|(kind, of)| (*kind, of.count())).collect();
        assert_eq!(counts, [(Kind::ZeroFill, 2), (Kind::FileRead, 1)]);
        assert_eq!((durations.with(), durations.without()), (3, 1));
    }
}
