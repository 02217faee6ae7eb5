// SPDX-License-Identifier: GPL-2.0-only

//! What the summary tells of how long the faults took.

use std::collections::HashMap;

use fault_tracer_trace::{Fate, Kind, ResolvedFault};
use hdrhistogram::Histogram;

use crate::format::{counted, grouped, short};

/// Durations by kind. Attempts count as part of the fault that they end in: its duration is the sum.
#[derive(Debug, Default)]
pub struct Durations {
    /// By [`Kind::ALL`].
    kinds: [Option<OfKind>; Kind::ALL.len()],
    /// By thread, the sum of the attempts of a fault that goes on; `None` where one has no duration.
    attempts: HashMap<u32, Option<u64>>,
    with: u64,
    without: u64,
}

#[derive(Debug)]
struct OfKind {
    histogram: Histogram<u64>,
    most_ns: u64,
}

/// Of the histograms: a value is right to one part in a hundred.
const DIGITS: u8 = 2;

impl Durations {
    /// Adds the next fault. Those of a thread come in their order.
    pub fn add(&mut self, fault: &ResolvedFault) {
        match fault.duration_ns {
            Some(_) => self.with += 1,
            None => self.without += 1,
        }
        let before = self.attempts.remove(&fault.fault.tid).unwrap_or(Some(0));
        let sum = before
            .zip(fault.duration_ns)
            .map(|(before, own)| before.saturating_add(own));
        if fault.fate == Fate::Retried {
            self.attempts.insert(fault.fault.tid, sum);
        } else if let Some(sum) = sum {
            let kind = self.kinds[fault.kind as usize].get_or_insert_with(|| OfKind {
                histogram: Histogram::new(DIGITS).expect("a number of digits that there can be"),
                most_ns: 0,
            });
            // It grows as need be.
            kind.histogram
                .record(sum)
                .expect("64 bits count any bucket");
            kind.most_ns = kind.most_ns.max(sum);
        }
    }

    /// The lines of the summary. `missed` is what the module counts.
    pub fn lines(&self, missed: u64) -> Vec<String> {
        let mut kinds: Vec<_> = Kind::ALL
            .into_iter()
            .filter_map(|kind| Some((kind, self.kinds[kind as usize].as_ref()?)))
            .collect();
        kinds.sort_by_key(|(_, of_kind)| std::cmp::Reverse(of_kind.histogram.len()));
        let width = kinds
            .iter()
            .map(|(kind, _)| kind.name().len())
            .max()
            .unwrap_or(0);
        let mut lines: Vec<_> = kinds
            .into_iter()
            .map(|(kind, OfKind { histogram, most_ns })| {
                // A bucket's upper end may lie beyond the longest.
                let quantile = |part| short(histogram.value_at_quantile(part).min(*most_ns));
                format!(
                    "{:width$}  median {}, 99 % {}, longest {} ({})",
                    kind.name(),
                    quantile(0.5),
                    quantile(0.99),
                    short(*most_ns),
                    grouped(histogram.len())
                )
            })
            .collect();
        lines.push(format!(
            "durations: {}; {} without ({})",
            counted(self.with, "fault with one", "faults with one"),
            grouped(self.without),
            counted(missed, "return missed", "returns missed")
        ));
        if missed != 0 {
            lines.push(
                "returns missed: more than 4,096 faults were under way at once, or a ring was full; try \
                 a larger --ring-kib"
                    .to_owned(),
            );
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fault_tracer_trace::Fault;

    fn fault(tid: u32, fate: Fate, duration_ns: Option<u64>) -> ResolvedFault {
        ResolvedFault {
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
            duration_ns,
        }
    }

    #[test]
    fn quantiles_are_told_by_kind() {
        let mut durations = Durations::default();
        for duration in 1..=1000 {
            durations.add(&fault(1, Fate::Minor, Some(duration * 1000)));
        }
        let mut read = fault(1, Fate::Major, Some(5));
        read.kind = Kind::FileRead;
        durations.add(&read);
        let lines = durations.lines(0);
        assert_eq!(lines.len(), 3);
        let number = |text: &str, name: &str| {
            let rest = text.split_once(name).expect(text).1.trim_start();
            rest.split(' ').next().unwrap().parse::<f64>().expect(rest)
        };
        assert!(lines[0].starts_with("zero-fill  median "), "{}", lines[0]);
        assert!((number(&lines[0], "median") - 500.0).abs() <= 5.0);
        assert!((number(&lines[0], "99 %") - 990.0).abs() <= 10.0);
        assert!(lines[0].ends_with("longest 1.00 ms (1,000)"));
        assert_eq!(
            lines[1],
            "file-read  median 5 ns, 99 % 5 ns, longest 5 ns (1)"
        );
        assert_eq!(
            lines[2],
            "durations: 1,001 faults with one; 0 without (0 returns missed)"
        );
    }

    #[test]
    fn attempts_are_part_of_the_fault_that_they_end_in() {
        let mut durations = Durations::default();
        durations.add(&fault(1, Fate::Retried, Some(100)));
        durations.add(&fault(2, Fate::Retried, None));
        durations.add(&fault(1, Fate::Retried, Some(20)));
        durations.add(&fault(1, Fate::Major, Some(3)));
        durations.add(&fault(2, Fate::Major, Some(7)));
        let lines = durations.lines(1);
        assert_eq!(
            lines[0],
            "zero-fill  median 123 ns, 99 % 123 ns, longest 123 ns (1)"
        );
        assert!(lines[1].contains("4 faults with one; 1 without (1 return missed)"));
        assert!(lines[2].contains("--ring-kib"));
    }
}
