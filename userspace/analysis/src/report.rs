// SPDX-License-Identifier: GPL-2.0-only

//! All of a trace's numbers in one pass.

use fault_tracer_trace::{export::Symbols, Metadata, Nodes, PageSize, Row, Stacks};

use crate::{
    counts::fault_of,
    executed::{Code, Executed},
    filter::Filter,
    groups::Groups,
    keys::{Context, Key},
    overview::Overview,
    regions::{Regions, RegionsFound},
    spaces::Spaces,
    verdict::{Proof, Verdict},
};

/// What is computed.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Of which faults.
    pub filter: Filter,
    /// Groups, by these keys each.
    pub groups: Vec<Vec<Key>>,
    /// Steps of groups by time, in nanoseconds.
    pub step_ns: u64,
    /// Whether the regions are wanted, which take memory for all pages.
    pub regions: bool,
    /// Whether the functions are wanted that faulted when they were executed.
    pub code: bool,
}

/// Takes the rows of a trace.
pub struct Analysis {
    filter: Filter,
    overview: Overview,
    spaces: Spaces,
    regions: Option<Regions>,
    code: Option<Code>,
    groups: Vec<Groups>,
    proof: Proof,
    /// Time of the first fault.
    start_ns: Option<u64>,
    nodes: Nodes,
    page_size: PageSize,
    stacks: Stacks,
}

/// What a trace comes to.
#[derive(Debug)]
pub struct Report {
    /// The totals of the faults that match the filter.
    pub overview: Overview,
    /// In the order in which they were wanted.
    pub groups: Vec<Groups>,
    /// Where they were wanted.
    pub regions: Option<RegionsFound>,
    /// Likewise.
    pub code: Option<Vec<Executed>>,
    /// Whether the trace is complete; the filter does not matter.
    pub verdict: Verdict,
    /// How large the pages are that are counted.
    pub page_size: PageSize,
}

impl Analysis {
    /// Computes what is wanted of a trace that says that of itself.
    pub fn new(wanted: &Wanted, metadata: &Metadata) -> Self {
        let page_size = metadata.page_size;
        let groups = wanted
            .groups
            .iter()
            .map(|keys| Groups::new(keys, wanted.step_ns, page_size));
        Self {
            filter: wanted.filter.clone(),
            overview: Overview::default(),
            spaces: Spaces::default(),
            regions: wanted.regions.then(|| Regions::new(page_size)),
            code: wanted.code.then(Code::default),
            groups: groups.collect(),
            proof: Proof::new(metadata.account).with_selection(!metadata.selection.is_empty()),
            start_ns: None,
            nodes: metadata.nodes.clone(),
            page_size,
            stacks: Stacks::default(),
        }
    }

    /// Takes the next row.
    pub fn add(&mut self, row: &Row, symbols: &mut dyn Symbols) {
        match row {
            Row::Thread(thread) => symbols.thread(thread),
            Row::Frame(frame) => self.stacks.add(frame),
            _ => {}
        }
        self.proof.add(row);
        self.overview.row(row, self.start_ns);
        if let Some(space) = self.spaces.add(row) {
            for groups in &mut self.groups {
                groups.forget(space);
            }
            if let Some(regions) = &mut self.regions {
                regions.forget(space);
            }
        }
        let Some(fault) = fault_of(row) else { return };
        let start_ns = *self.start_ns.get_or_insert(fault.fault.time_ns);
        let mut context = Context {
            symbols,
            start_ns,
            nodes: &self.nodes,
            stacks: &self.stacks,
        };
        if !self.filter.matches(fault, &mut context) {
            return;
        }
        let time_ns = fault.fault.time_ns.saturating_sub(start_ns);
        self.overview.add(fault, time_ns);
        let space = self.spaces.of(fault);
        for groups in &mut self.groups {
            groups.add(fault, space, &mut context);
        }
        if let Some(code) = &mut self.code {
            code.add(fault, space, context.symbols);
        }
        if let Some(regions) = &mut self.regions {
            regions.add(fault, space, self.spaces.space(space), time_ns);
        }
    }

    /// Ends the trace.
    pub fn finish(self) -> Report {
        Report {
            regions: self.regions.map(|regions| regions.found(&self.spaces)),
            code: self.code.map(Code::found),
            overview: self.overview,
            groups: self.groups,
            verdict: self.proof.close(),
            page_size: self.page_size,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        groups::Order,
        testing::{fault, kib},
    };
    use fault_tracer_trace::{Fate, Kind};

    #[test]
    fn pages_are_those_of_the_traced_machine() {
        for (size, pages) in [(4, 64), (16, 16), (64, 4)] {
            let metadata = Metadata {
                page_size: kib(size),
                ..Metadata::default()
            };
            let wanted = Wanted {
                groups: vec![vec![Key::Mapping]],
                regions: true,
                ..Wanted::default()
            };
            let mut analysis = Analysis::new(&wanted, &metadata);
            for page in 0..64 {
                analysis.add(&fault().page(page).row(), &mut ());
            }
            let report = analysis.finish();
            assert_eq!(report.page_size, kib(size));
            assert_eq!(report.groups[0].sorted(Order::Pages)[0].pages, pages);
            assert_eq!(report.regions.unwrap().regions[0].pages, pages);
        }
    }

    #[test]
    fn one_pass_feeds_all() {
        let wanted = Wanted {
            filter: Filter::parse("kind!=file-read").unwrap(),
            groups: vec![vec![Key::Kind], vec![Key::Mapping]],
            step_ns: 1,
            regions: true,
            code: false,
        };
        let mut analysis = Analysis::new(&wanted, &Metadata::default());
        for row in [
            fault().row(),
            fault().row(),
            fault().fate(Fate::Retried).row(),
            fault().kind(Kind::FileRead).row(),
            fault().mapping("[heap]").row(),
        ] {
            analysis.add(&row, &mut ());
        }
        let report = analysis.finish();
        assert_eq!(report.overview.counts.faults, 3);
        let sizes: Vec<_> = report
            .groups
            .iter()
            .map(|groups| {
                let groups = groups.sorted(Order::Faults);
                groups
                    .iter()
                    .map(|group| group.counts.faults)
                    .collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(sizes, [vec![3], vec![2, 1]]);
        assert_eq!(report.regions.unwrap().regions.len(), 2);
        assert_eq!(report.verdict.faults, 5, "the proof is of all rows");
    }
}
