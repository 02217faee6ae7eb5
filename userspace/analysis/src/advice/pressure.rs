// SPDX-License-Identifier: GPL-2.0-only

//! Rules on a machine that is short of memory or of locks.

use fault_tracer_trace::Kind;

use super::{Advice, Bound, Rule};
use crate::{regions::RegionsFound, report::Report};

/// Pages come back from swap.
pub fn swap(report: &Report, _: &RegionsFound) -> Vec<Advice> {
    let overview = &report.overview;
    let swap = &overview.kinds[Kind::SwapIn as usize];
    vec![Advice {
        time_ns: (overview.counts.timed != 0).then_some(swap.time_ns),
        evidence: vec![("swap-in", swap.faults), ("major", swap.major)],
        ..Advice::new(
            Rule::Swap,
            overview.counts.faults,
            swap.faults,
            Bound::AtMost,
        )
    }]
}

/// The kernel takes the access to pages away, to see which node uses them. All such faults go where nothing is balanced;
/// what the balancing is good for, memory that is near, goes with them.
pub fn numa_hints(report: &Report, _: &RegionsFound) -> Vec<Advice> {
    let overview = &report.overview;
    let hints = &overview.kinds[Kind::NumaHint as usize];
    vec![Advice {
        time_ns: (overview.counts.timed != 0).then_some(hints.time_ns),
        evidence: vec![("numa-hint", hints.faults)],
        ..Advice::new(
            Rule::NumaHints,
            overview.counts.faults,
            hints.faults,
            Bound::AtMost,
        )
    }]
}

/// Faults entered the kernel's handler again: they waited for a page or for a lock.
pub fn contention(report: &Report, _: &RegionsFound) -> Vec<Advice> {
    let overview = &report.overview;
    let faults = overview.counts.faults;
    let further = overview.tally.attempts().saturating_sub(faults);
    vec![Advice {
        evidence: vec![("further-attempts", further)],
        ..Advice::new(Rule::Contention, faults, further, Bound::Concerned)
    }]
}

#[cfg(test)]
mod tests {
    use super::super::testing::by;
    use super::*;
    use crate::testing::fault;
    use fault_tracer_trace::{Fate, Row};

    #[test]
    fn pages_from_swap() {
        let swapped = |n: u64| fault().kind(Kind::SwapIn).page(n * 600).fate(Fate::Major);
        let advice = by(Rule::Swap, (0..500).map(|n| swapped(n).took(100).row())).unwrap();
        assert_eq!((advice.saving, advice.time_ns), (500, Some(50_000)));
        assert_eq!(
            by(
                Rule::Swap,
                (0..500).map(|n: u64| fault().page(n * 600).row())
            ),
            None
        );
    }

    #[test]
    fn pages_that_are_balanced_between_nodes() {
        let hinted = |n: u64| fault().kind(Kind::NumaHint).page(n % 200);
        let advice = by(Rule::NumaHints, (0..500).map(|n| hinted(n).took(20).row())).unwrap();
        assert_eq!((advice.saving, advice.time_ns), (500, Some(10_000)));
        assert_eq!(advice.bound, Bound::AtMost);
        // A program with as many faults, of which hardly any are of that kind.
        let few = (0..500).map(|n| match n % 100 {
            0 => hinted(n).row(),
            _ => fault().page(n * 600).row(),
        });
        assert_eq!(by(Rule::NumaHints, few), None);
    }

    #[test]
    fn attempts_that_are_made_again() {
        let rows = |attempts| {
            (0..500).map(move |n| {
                let mut fault = fault().page(n * 600).build();
                fault.attempts = attempts;
                Row::Fault(Box::new(fault))
            })
        };
        let advice = by(Rule::Contention, rows(3)).unwrap();
        assert_eq!((advice.saving, advice.bound), (1000, Bound::Concerned));
        assert_eq!(by(Rule::Contention, rows(1)), None);
    }
}
