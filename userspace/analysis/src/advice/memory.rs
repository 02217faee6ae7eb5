// SPDX-License-Identifier: GPL-2.0-only

//! Rules on anonymous memory.

use fault_tracer_trace::Name;

use super::{mean_time, Advice, Bound, Rule};
use crate::{
    counts::Counts,
    pages::Touch,
    patterns::Pattern,
    regions::{Region, RegionsFound},
    report::Report,
};

/// The regions of each program, with the program's faults.
fn by_program(found: &RegionsFound) -> impl Iterator<Item = (&Option<Name>, u64, Vec<&Region>)> {
    found.programs.iter().map(|program| {
        let of = |region: &&Region| region.program == program.path;
        let regions = found.regions.iter().filter(of).collect();
        (&program.path, program.counts.faults, regions)
    })
}

/// Whether it may be the allocator's: neither a file nor a stack.
fn is_anonymous(region: &Region) -> bool {
    !region.is_file
        && region
            .mapping
            .as_deref()
            .is_some_and(|name| name == "[heap]" || name.starts_with("[anon"))
}

/// A page is filled with zeros more than once: rows − different pages are saved if it is not given back.
pub fn refault(report: &Report, found: &RegionsFound) -> Vec<Advice> {
    let timed = report.overview.counts.timed != 0;
    by_program(found)
        .map(|(program, faults, regions)| {
            let mut saving = 0;
            let mut time_ns = 0u64;
            let (mut heap, mut elsewhere, mut pages) = (0, 0, 0);
            for region in regions.iter().filter(|region| is_anonymous(region)) {
                let again = region.touched(Touch::Again);
                saving += again.faults;
                time_ns = time_ns.saturating_add(again.time_ns);
                pages += region.pages;
                match region.mapping.as_deref() {
                    Some("[heap]") => heap += again.faults,
                    _ => elsewhere += again.faults,
                }
            }
            Advice {
                program: program.clone(),
                time_ns: timed.then_some(time_ns),
                evidence: vec![
                    ("filled-again-heap", heap),
                    ("filled-again-elsewhere", elsewhere),
                    ("pages", pages),
                ],
                ..Advice::new(Rule::Refault, faults, saving, Bound::Exact)
            }
        })
        .collect()
}

/// n zero-fills in an aligned block of one mapping, of the N pages that a huge page has: n − 1 are saved, and N − n pages are
/// the cost. No advice where more memory than is used would be added.
pub fn huge_pages(report: &Report, found: &RegionsFound) -> Vec<Advice> {
    let zero_fills: &Counts = &report.overview.kinds[fault_tracer_trace::Kind::ZeroFill as usize];
    by_program(found)
        .filter_map(|(program, faults, regions)| {
            let (mut blocks, mut saving, mut cost) = (0u64, 0, 0);
            for region in regions.iter().filter(|region| is_anonymous(region)) {
                blocks += region.blocks.huge_blocks;
                saving += region.blocks.huge_saving;
                cost += region.blocks.huge_cost_pages;
            }
            let pages = blocks * report.page_size.of_huge_page();
            (cost * 2 <= pages).then(|| Advice {
                program: program.clone(),
                time_ns: mean_time(zero_fills, saving),
                cost_pages: cost,
                cost_bytes: cost.saturating_mul(report.page_size.bytes()),
                evidence: vec![
                    ("blocks", blocks),
                    ("block-mib", report.page_size.huge_bytes() >> 20),
                    ("pages", pages - cost),
                ],
                ..Advice::new(Rule::HugePages, faults, saving, Bound::Exact)
            })
        })
        .collect()
}

/// A read maps the shared page of zeros, and a write replaces it: one fault a page is saved.
pub fn read_then_write(report: &Report, found: &RegionsFound) -> Vec<Advice> {
    let reads = &report.overview.kinds[fault_tracer_trace::Kind::ZeroPage as usize];
    by_program(found)
        .map(|(program, faults, regions)| {
            let touched = |region: &&&Region| region.touched(Touch::ReadThenWrite).faults;
            let saving = regions.iter().map(|region| touched(&region)).sum();
            let mapping = regions.iter().max_by_key(touched);
            Advice {
                program: program.clone(),
                mapping: mapping.and_then(|region| region.mapping.clone()),
                time_ns: mean_time(reads, saving),
                evidence: vec![("pages", saving)],
                ..Advice::new(Rule::ReadThenWrite, faults, saving, Bound::Exact)
            }
        })
        .collect()
}

/// Memory is touched first in the second half of the run, in no order: it was mapped before, and is not taken piece by
/// piece as it is needed. Of programs that ran once: of the others, late in the trace is not late in a run. Such faults
/// are not saved but moved to the start.
pub fn late_touch(_: &Report, found: &RegionsFound) -> Vec<Advice> {
    by_program(found)
        .zip(&found.programs)
        .filter(|(_, program)| program.execs <= 1)
        .filter_map(|((program, faults, regions), _)| {
            let late = |region: &&&Region| {
                is_anonymous(region) && region.steps.pattern() == Pattern::Random
            };
            let late: Vec<_> = regions.iter().filter(late).collect();
            let touches: u64 = late.iter().map(|region| region.late_touches).sum();
            let most = late.iter().max_by_key(|region| region.late_touches)?;
            Some(Advice {
                program: program.clone(),
                mapping: most.mapping.clone(),
                evidence: vec![("late-touches", touches)],
                ..Advice::new(Rule::LateTouch, faults, touches, Bound::Concerned)
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{by, on_machine};
    use super::*;
    use crate::testing::{fault, kib};
    use fault_tracer_trace::{Kind, Metadata};

    #[test]
    fn memory_that_is_given_back_and_used_again() {
        let rows = (0..10_000).map(|n| fault().program("/bin/a").page(n % 100).took(10).row());
        let advice = by(Rule::Refault, rows).unwrap();
        assert_eq!(
            (advice.faults, advice.saving, advice.left()),
            (10_000, 9_900, 100)
        );
        assert_eq!(advice.time_ns, Some(99_000));
        assert_eq!(advice.evidence[1], ("filled-again-elsewhere", 9_900));
        // As many faults, each at another page; and a stack, which no allocator has.
        let rows = (0..10_000).map(|n| fault().program("/bin/a").page(n).row());
        assert_eq!(by(Rule::Refault, rows), None);
        let rows = (0..10_000).map(|n| fault().mapping("[stack]").page(n % 100).row());
        assert_eq!(by(Rule::Refault, rows), None);
    }

    #[test]
    fn huge_pages_are_those_of_the_traced_machine() {
        for (size, block, mib) in [(4, 512, 2), (16, 2048, 32), (64, 8192, 512)] {
            let metadata = Metadata {
                page_size: kib(size),
                ..Metadata::default()
            };
            // Two blocks, of the second every other page and the last.
            let second = (0..block).filter(|page| page % 2 == 0 || page + 1 == block);
            let pages = (0..block).chain(second.map(|page| block + page));
            let rows = pages.map(|page| {
                let fault = fault().mapping("[heap]");
                fault.address(page * (size << 10)).row()
            });
            let mut advice = on_machine(&metadata, rows);
            advice.retain(|advice| advice.rule == Rule::HugePages);
            let [advice] = &advice[..] else {
                panic!("{size} KiB: {advice:?}")
            };
            let cost = block / 2 - 1;
            assert_eq!(advice.saving, block - 1 + block / 2, "{size} KiB");
            assert_eq!(
                (advice.cost_pages, advice.cost_bytes),
                (cost, cost * (size << 10))
            );
            assert_eq!(
                advice.evidence,
                [
                    ("blocks", 2),
                    ("block-mib", mib),
                    ("pages", 2 * block - cost)
                ]
            );
        }
    }

    #[test]
    fn memory_that_is_used_as_a_whole() {
        let heap = |page| fault().mapping("[heap]").page(page).took(10).row();
        let advice = by(Rule::HugePages, (100..16_484).map(heap)).unwrap();
        // 31 whole blocks, and a part at each end.
        assert_eq!(
            (advice.saving, advice.left()),
            (31 * 511, 16_384 - 31 * 511)
        );
        assert_eq!((advice.cost_pages, advice.time_ns), (0, Some(31 * 5110)));
        // Every fourth page: three times as much memory for nothing.
        assert_eq!(by(Rule::HugePages, (0..16_384).step_by(4).map(heap)), None);
        // Of pieces below 2 MiB none can be huge.
        let pieces = (0..16_384)
            .filter(|page| page % 1024 < 500)
            .map(|page| page + 5);
        assert_eq!(by(Rule::HugePages, pieces.map(heap)), None);
    }

    #[test]
    fn pages_that_are_read_before_they_are_written() {
        let both = (0..4096).flat_map(|page| {
            let read = fault().page(page * 2).kind(Kind::ZeroPage);
            let write = fault().page(page * 2).kind(Kind::CopyOnWrite);
            [read.took(4).row(), write.took(9).row()]
        });
        let advice = by(Rule::ReadThenWrite, both).unwrap();
        assert_eq!((advice.faults, advice.saving), (8192, 4096));
        assert_eq!(advice.time_ns, Some(4 * 4096));
        let read = (0..4096).map(|page| fault().page(page).kind(Kind::ZeroPage).row());
        assert_eq!(by(Rule::ReadThenWrite, read), None);
    }

    #[test]
    fn memory_that_is_touched_late() {
        let second = 1_000_000_000;
        // In no order, over the whole run.
        let scattered = |n: u64| {
            let page = n.reverse_bits() >> 53;
            fault().program("/bin/a").page(page).time(n * second)
        };
        let advice = by(Rule::LateTouch, (0..2000).map(|n| scattered(n).row())).unwrap();
        assert_eq!(advice.bound, Bound::Concerned);
        // Half of them, but for the step in the middle.
        assert!((950..=1000).contains(&advice.saving), "{}", advice.saving);
        // At the start alone; and memory that grows.
        let early = (0..2000).map(|n| scattered(n).time(n).row());
        let last = fault()
            .program("/bin/a")
            .page(4097)
            .time(2000 * second)
            .row();
        assert_eq!(by(Rule::LateTouch, early.chain([last])), None);
        let grows = (0..2000).map(|n| fault().program("/bin/a").page(n).time(n * second).row());
        assert_eq!(by(Rule::LateTouch, grows), None);
    }
}
