// SPDX-License-Identifier: GPL-2.0-only

//! What would save faults. Each rule has a condition that the trace must meet, and predicts from its rows what is saved.
//!
//! Savings of different rules overlap: what is not filled again needs no huge page.

use fault_tracer_trace::Name;

use crate::report::Report;

mod files;
mod memory;
mod pressure;
mod processes;

/// A rule gives no advice that saves fewer faults.
const LEAST_FAULTS: u64 = 128;

/// A rule gives no advice that saves a smaller part (0 to 1) of all faults, or of the time in them.
const LEAST_PART: f64 = 0.02;

/// A rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// The allocator gives memory back that is used again at once.
    Refault,
    /// Memory that is used as a whole comes in small pages.
    HugePages,
    /// Pages are read before they are written.
    ReadThenWrite,
    /// Memory is touched first long after the start, in no order.
    LateTouch,
    /// Functions that are executed lie far from one another.
    OrderFile,
    /// Files are mapped in windows that are too small.
    FaultAround,
    /// A file is read through a mapping from end to end.
    PopulateFile,
    /// Pages come from the disk.
    Prefetch,
    /// Shared pages are cleaned while they are still written to.
    DirtyAgain,
    /// The dynamic loader copies pages of libraries.
    Relocation,
    /// The same program is started again and again.
    ExecStorm,
    /// Pages are copied between `fork` and `exec`.
    ForkCopies,
    /// Pages come back from swap.
    Swap,
    /// The kernel takes the access to pages away, to see which NUMA node uses them.
    NumaHints,
    /// Faults have to be tried again.
    Contention,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Refault,
        Self::HugePages,
        Self::ReadThenWrite,
        Self::LateTouch,
        Self::OrderFile,
        Self::FaultAround,
        Self::PopulateFile,
        Self::Prefetch,
        Self::DirtyAgain,
        Self::Relocation,
        Self::ExecStorm,
        Self::ForkCopies,
        Self::Swap,
        Self::NumaHints,
        Self::Contention,
    ];

    /// Its name in files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refault => "refault",
            Self::HugePages => "huge-pages",
            Self::ReadThenWrite => "read-then-write",
            Self::LateTouch => "late-touch",
            Self::OrderFile => "order-file",
            Self::FaultAround => "fault-around",
            Self::PopulateFile => "populate-file",
            Self::Prefetch => "prefetch",
            Self::DirtyAgain => "dirty-again",
            Self::Relocation => "relocation",
            Self::ExecStorm => "exec-storm",
            Self::ForkCopies => "fork-copies",
            Self::Swap => "swap",
            Self::NumaHints => "numa-hints",
            Self::Contention => "contention",
        }
    }
}

/// What a prediction is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// So many, as far as the trace tells.
    Exact,
    /// At most so many.
    AtMost,
    /// None is saved for sure: the number says how many are concerned.
    Concerned,
}

impl Bound {
    /// Its name in files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::AtMost => "at-most",
            Self::Concerned => "concerned",
        }
    }
}

/// A piece of advice.
#[derive(Clone, Debug, PartialEq)]
pub struct Advice {
    /// By which rule.
    pub rule: Rule,
    /// For which program; `None` for all, or for one that is not known.
    pub program: Option<Name>,
    /// For which mapping, if it is for one.
    pub mapping: Option<Name>,
    /// Faults of the program, or of all, as they are now.
    pub faults: u64,
    /// Faults that are saved.
    pub saving: u64,
    /// What that number is.
    pub bound: Bound,
    /// Time in faults that is saved at most, in nanoseconds; `None` where the faults have no durations.
    pub time_ns: Option<u64>,
    /// Memory that it costs, in pages.
    pub cost_pages: u64,
    /// And in bytes.
    pub cost_bytes: u64,
    /// The numbers that the condition rests on, with their names.
    pub evidence: Vec<(&'static str, u64)>,
    /// Files that are to be read before, the slowest first; of [`Rule::Prefetch`] alone.
    pub files: Vec<Name>,
    /// Functions in the order in which they faulted first; of [`Rule::OrderFile`] alone.
    pub functions: Vec<Name>,
}

impl Advice {
    fn new(rule: Rule, faults: u64, saving: u64, bound: Bound) -> Self {
        Self {
            rule,
            program: None,
            mapping: None,
            faults,
            saving,
            bound,
            time_ns: None,
            cost_pages: 0,
            cost_bytes: 0,
            evidence: Vec::new(),
            files: Vec::new(),
            functions: Vec::new(),
        }
    }

    /// Faults that are left, as predicted.
    pub fn left(&self) -> u64 {
        self.faults.saturating_sub(self.saving)
    }
}

/// The advice that a trace deserves, what saves most first. None where regions were not wanted.
pub fn advise(report: &Report) -> Vec<Advice> {
    let Some(found) = &report.regions else {
        return Vec::new();
    };
    let rules = [
        memory::refault,
        memory::huge_pages,
        memory::read_then_write,
        memory::late_touch,
        files::order,
        files::fault_around,
        files::populate,
        files::prefetch,
        files::dirty_again,
        processes::relocation,
        processes::exec_storm,
        processes::fork_copies,
        pressure::swap,
        pressure::numa_hints,
        pressure::contention,
    ];
    let all = &report.overview.counts;
    let mut advice: Vec<_> = rules
        .iter()
        .flat_map(|rule| rule(report, found))
        .filter(|advice| {
            let part = advice.saving as f64 / all.faults.max(1) as f64;
            let time_part = advice.time_ns.unwrap_or(0) as f64 / all.time_ns.max(1) as f64;
            let many = advice.saving >= LEAST_FAULTS && part >= LEAST_PART;
            let slow =
                matches!(advice.rule, Rule::Prefetch | Rule::Swap) && time_part >= LEAST_PART;
            many || slow
        })
        .collect();
    advice.sort_by_key(|advice| (std::cmp::Reverse(advice.saving), advice.rule.name()));
    advice
}

/// What so many faults of some with these counts took, as the mean says.
fn mean_time(counts: &crate::Counts, faults: u64) -> Option<u64> {
    // CAST: 2^64 nanoseconds are 584 years.
    let time = u128::from(counts.time_ns) * u128::from(faults);
    time.checked_div(counts.timed.into())
        .map(|time| time as u64)
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use crate::{testing::Functions, Analysis, Wanted};
    use fault_tracer_trace::{Metadata, Row};

    /// The advice on some rows, where each function of a file has 4,096 bytes.
    pub fn on(rows: impl IntoIterator<Item = Row>) -> Vec<Advice> {
        on_machine(&Metadata::default(), rows)
    }

    /// The same, on a machine of which the metadata tells.
    pub fn on_machine(metadata: &Metadata, rows: impl IntoIterator<Item = Row>) -> Vec<Advice> {
        let wanted = Wanted {
            regions: true,
            code: true,
            ..Wanted::default()
        };
        let mut analysis = Analysis::new(&wanted, metadata);
        for row in rows {
            analysis.add(&row, &mut Functions { bytes: 4096 });
        }
        advise(&analysis.finish())
    }

    /// The advice of one rule, if there is one.
    pub fn by(rule: Rule, rows: impl IntoIterator<Item = Row>) -> Option<Advice> {
        let mut advice = on(rows);
        advice.retain(|advice| advice.rule == rule);
        assert!(advice.len() <= 1, "{advice:?}");
        advice.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::{testing::on, *};
    use crate::testing::fault;

    #[test]
    fn nothing_to_gain_is_no_advice() {
        assert_eq!(on([]), []);
        let scattered = (0..5000).map(|n| fault().page(n * 700).row());
        assert_eq!(on(scattered), []);
    }

    #[test]
    fn what_saves_most_comes_first() {
        let again = (0..3000).map(|n| fault().page(n % 1000 + 1).row());
        let heap = (0..1024).map(|n| fault().mapping("[heap]").page(n).row());
        let advice = on(again.chain(heap));
        let found: Vec<_> = advice.iter().map(|of| (of.rule, of.saving)).collect();
        assert_eq!(found, [(Rule::Refault, 2000), (Rule::HugePages, 1022)]);
    }
}
