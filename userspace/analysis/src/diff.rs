// SPDX-License-Identifier: GPL-2.0-only

//! What has changed between two sides, each of one or more runs, and what is chance.

use std::collections::BTreeMap;

use crate::{counts::Counts, groups::Groups, groups::Order, keys::Value};

/// Two-sided 99 % quantiles of Student's distribution, by degrees of freedom from 1.
const STUDENT_99: [f64; 30] = [
    63.657, 9.925, 5.841, 4.604, 4.032, 3.707, 3.499, 3.355, 3.250, 3.169, 3.106, 3.055, 3.012,
    2.977, 2.947, 2.921, 2.898, 2.878, 2.861, 2.845, 2.831, 2.819, 2.807, 2.797, 2.787, 2.779,
    2.771, 2.763, 2.756, 2.750,
];

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Faults.
    Faults,
    /// Time in faults, in nanoseconds.
    Time,
    /// Different pages.
    Pages,
}

/// A number in each run of a side.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Side {
    /// The mean.
    pub mean: f64,
    /// The standard deviation of a run; `None` of one run.
    pub deviation: Option<f64>,
    /// Runs.
    pub runs: u64,
}

impl Side {
    /// Of the numbers of the runs.
    pub fn of(numbers: &[u64]) -> Self {
        let runs = numbers.len() as f64;
        let mean = numbers.iter().map(|number| *number as f64).sum::<f64>() / runs.max(1.0);
        let squares = numbers.iter().map(|number| (*number as f64 - mean).powi(2));
        Self {
            mean,
            deviation: (numbers.len() > 1).then(|| (squares.sum::<f64>() / (runs - 1.0)).sqrt()),
            runs: numbers.len() as u64,
        }
    }

    fn squared_error(&self) -> Option<f64> {
        Some(self.deviation?.powi(2) / self.runs as f64)
    }
}

/// Whether a difference is more than the runs of one side differ among themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// It is, with 99 % confidence (Welch's test).
    Change,
    /// It may be chance.
    Chance,
    /// One run of a side does not tell.
    Unknown,
}

impl Certainty {
    /// Its name in files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Change => "change",
            Self::Chance => "chance",
            Self::Unknown => "unknown",
        }
    }
}

/// A number on both sides.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    /// Before.
    pub before: Side,
    /// After.
    pub after: Side,
}

impl Change {
    /// After − before.
    pub fn difference(&self) -> f64 {
        self.after.mean - self.before.mean
    }

    /// The difference as a part of what it was before; `None` where that was 0.
    pub fn part(&self) -> Option<f64> {
        (self.before.mean != 0.0).then(|| self.difference() / self.before.mean)
    }

    /// Whether it is more than chance.
    pub fn certainty(&self) -> Certainty {
        let (Some(before), Some(after)) = (self.before.squared_error(), self.after.squared_error())
        else {
            return Certainty::Unknown;
        };
        let error = before + after;
        let difference = self.difference().abs();
        if error == 0.0 {
            // All runs of a side agree.
            return if difference == 0.0 {
                Certainty::Chance
            } else {
                Certainty::Change
            };
        }
        let freedom = |part: f64, side: &Side| part.powi(2) / (side.runs as f64 - 1.0);
        let freedom = error.powi(2) / (freedom(before, &self.before) + freedom(after, &self.after));
        // CAST: from 1 upwards, rounded down to be on the safe side.
        let index = (freedom as usize).clamp(1, STUDENT_99.len()) - 1;
        if difference > STUDENT_99[index] * error.sqrt() {
            Certainty::Change
        } else {
            Certainty::Chance
        }
    }
}

/// A group on both sides.
#[derive(Clone, Debug, PartialEq)]
pub struct ChangedGroup {
    /// The values of the keys.
    pub values: Vec<Value>,
    /// Its faults.
    pub faults: Change,
    /// Its time, in nanoseconds; of runs without durations 0.
    pub time: Change,
    /// Its different pages.
    pub pages: Change,
    /// And in bytes: runs of machines whose pages have different sizes can be compared by these.
    pub bytes: Change,
}

impl ChangedGroup {
    /// One of its numbers.
    pub fn change(&self, measure: Measure) -> &Change {
        match measure {
            Measure::Faults => &self.faults,
            Measure::Time => &self.time,
            Measure::Pages => &self.bytes,
        }
    }
}

/// The numbers of a run, by group.
#[derive(Debug, Default)]
struct Numbers {
    faults: [Vec<u64>; 2],
    time: [Vec<u64>; 2],
    pages: [Vec<u64>; 2],
    bytes: [Vec<u64>; 2],
}

/// Compares groups by the same keys: the largest changes of `measure` first, what is surely one before what may be chance.
pub fn compare(before: &[&Groups], after: &[&Groups], measure: Measure) -> Vec<ChangedGroup> {
    let mut groups: BTreeMap<Vec<Value>, Numbers> = BTreeMap::new();
    for (side, runs) in [before, after].into_iter().enumerate() {
        for (run, found) in runs.iter().enumerate() {
            for group in found.sorted(Order::Faults) {
                let numbers = groups.entry(group.values).or_default();
                let Counts {
                    faults, time_ns, ..
                } = group.counts;
                // Runs that do not have it have 0 of it.
                let set = |numbers: &mut [Vec<u64>; 2], number| {
                    numbers[side].resize(run, 0);
                    numbers[side].push(number);
                };
                set(&mut numbers.faults, faults);
                set(&mut numbers.time, time_ns);
                set(&mut numbers.pages, group.pages);
                let bytes = group.pages.saturating_mul(found.page_size().bytes());
                set(&mut numbers.bytes, bytes);
            }
        }
    }
    let change = |mut numbers: [Vec<u64>; 2]| {
        numbers[0].resize(before.len(), 0);
        numbers[1].resize(after.len(), 0);
        Change {
            before: Side::of(&numbers[0]),
            after: Side::of(&numbers[1]),
        }
    };
    let mut changed: Vec<_> = groups
        .into_iter()
        .map(|(values, numbers)| ChangedGroup {
            values,
            faults: change(numbers.faults),
            time: change(numbers.time),
            pages: change(numbers.pages),
            bytes: change(numbers.bytes),
        })
        .collect();
    changed.sort_by(|one, other| {
        let rank = |group: &ChangedGroup| {
            let change = group.change(measure);
            let sure = change.certainty() != Certainty::Chance;
            (sure, change.difference().abs())
        };
        let (one, other) = (rank(one), rank(other));
        other.0.cmp(&one.0).then(other.1.total_cmp(&one.1))
    });
    changed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        keys::{Context, Key},
        testing::fault,
    };
    use fault_tracer_trace::{Nodes, PageSize};

    fn change(before: &[u64], after: &[u64]) -> Change {
        Change {
            before: Side::of(before),
            after: Side::of(after),
        }
    }

    #[test]
    fn chance_is_not_told_as_change() {
        let certainty = |before: &[u64], after: &[u64]| change(before, after).certainty();
        assert_eq!(certainty(&[100], &[200]), Certainty::Unknown);
        assert_eq!(certainty(&[100, 101], &[200]), Certainty::Unknown);
        assert_eq!(
            certainty(&[100, 110, 90], &[105, 95, 115]),
            Certainty::Chance
        );
        assert_eq!(
            certainty(&[100, 101, 99], &[200, 201, 199]),
            Certainty::Change
        );
        assert_eq!(certainty(&[100, 100], &[100, 100]), Certainty::Chance);
        assert_eq!(certainty(&[100, 100], &[101, 101]), Certainty::Change);
        // Two runs a side that differ by as much as the sides do.
        assert_eq!(certainty(&[100, 200], &[200, 300]), Certainty::Chance);
    }

    #[test]
    fn means_and_deviations() {
        let side = Side::of(&[2, 4, 4, 4, 5, 5, 7, 9]);
        assert_eq!(side.mean, 5.0);
        assert!((side.deviation.unwrap() - 2.138).abs() < 0.001);
        let change = change(&[50], &[75]);
        assert_eq!((change.difference(), change.part()), (25.0, Some(0.5)));
        assert_eq!(Change::default().part(), None);
    }

    /// Of so many equal runs of the same, only by chance would a change be found: no more often than the test's one in a
    /// hundred, by far.
    #[test]
    fn equal_sides_rarely_differ() {
        let mut state = 1u64;
        let mut random = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            1000 + (state >> 33) % 100
        };
        let found = (0..2000)
            .filter(|_| {
                let before: Vec<_> = (0..5).map(|_| random()).collect();
                let after: Vec<_> = (0..5).map(|_| random()).collect();
                change(&before, &after).certainty() == Certainty::Change
            })
            .count();
        assert!(found <= 40, "{found}");
    }

    #[test]
    fn groups_are_matched() {
        let run_of = |counts: &[(&str, u64)], page_size| {
            let mut groups = Groups::new(&[Key::Mapping], 1, page_size);
            let mut context = Context {
                symbols: &mut (),
                start_ns: 0,
                nodes: &Nodes::default(),
                stacks: &Default::default(),
            };
            for (name, count) in counts {
                for page in 0..*count {
                    let mut fault = fault().mapping(name).took(3).build();
                    fault.fault.address = page << page_size.shift();
                    groups.add(&fault, 0, &mut context);
                }
            }
            groups
        };
        let run = |counts: &[(&str, u64)]| run_of(counts, PageSize::default());
        let before = [run(&[("a", 10), ("b", 5)]), run(&[("a", 10), ("b", 7)])];
        let after = [run(&[("a", 10), ("c", 4)]), run(&[("a", 10), ("c", 4)])];
        let changed = compare(
            &before.iter().collect::<Vec<_>>(),
            &after.iter().collect::<Vec<_>>(),
            Measure::Faults,
        );
        let found: Vec<_> = changed
            .iter()
            .map(|group| {
                let Value::Text(name) = &group.values[0] else {
                    panic!();
                };
                (&**name, group.faults.difference(), group.faults.certainty())
            })
            .collect();
        assert_eq!(
            found,
            [
                ("c", 4.0, Certainty::Change),
                ("b", -6.0, Certainty::Chance),
                ("a", 0.0, Certainty::Chance)
            ]
        );
        assert_eq!(changed[0].time.difference(), 12.0);
        assert_eq!(changed[0].pages.difference(), 4.0);
        assert_eq!(changed[0].bytes.difference(), 16384.0);

        // The same memory in larger pages: fewer faults, and no change of the memory.
        let large = run_of(&[("a", 1)], PageSize::of_bytes(64 << 10).unwrap());
        let changed = compare(&[&run(&[("a", 16)])], &[&large], Measure::Pages);
        assert_eq!(changed[0].faults.difference(), -15.0);
        assert_eq!(changed[0].pages.difference(), -15.0);
        assert_eq!(changed[0].change(Measure::Pages).difference(), 0.0);
    }
}
