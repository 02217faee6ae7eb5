// SPDX-License-Identifier: GPL-2.0-only

//! Rules on files.

use fault_tracer_trace::Name;

use super::{mean_time, Advice, Bound, Rule};
use crate::{
    counts::Counts,
    pages::{Blocks, Touch, WINDOW_BYTES},
    patterns::Pattern,
    regions::{Cost, Program, Region, RegionsFound},
    report::Report,
};

/// Files of [`Rule::Prefetch`] that are named.
const FILES_MOST: usize = 20;

/// A larger window that saves less than this part (0 to 1) of the reads besides is not worth it.
const WINDOW_GAIN: f64 = 0.05;

fn costs(counts: &Cost) -> Counts {
    Counts {
        faults: counts.faults,
        timed: counts.faults,
        time_ns: counts.time_ns,
        ..Counts::default()
    }
}

/// k reads of files in W windows: k − W are saved, where the page cache has the pages. Of the sizes, the smallest that
/// the next one does not improve on much.
pub fn fault_around(report: &Report, found: &RegionsFound) -> Vec<Advice> {
    let mut blocks = Blocks::default();
    let mut reads = Cost::default();
    for region in &found.regions {
        blocks.merge(&region.blocks);
        reads.merge(&region.file_reads);
    }
    if blocks.file_pages == 0 {
        return Vec::new();
    }
    let mut best = 0;
    for size in 1..WINDOW_BYTES.len() {
        let gain = blocks.windows[best].saturating_sub(blocks.windows[size]);
        if gain as f64 >= reads.faults as f64 * WINDOW_GAIN {
            best = size;
        }
    }
    let saving = blocks.file_pages.saturating_sub(blocks.windows[best]);
    let timed = report.overview.counts.timed != 0;
    let time_ns = timed.then(|| mean_time(&costs(&reads), saving)).flatten();
    vec![Advice {
        time_ns,
        evidence: vec![
            ("file-pages", blocks.file_pages),
            ("window-kib", WINDOW_BYTES[best] / 1024),
            ("windows", blocks.windows[best]),
            ("windows-64-kib", blocks.windows[0]),
        ],
        ..Advice::new(
            Rule::FaultAround,
            report.overview.counts.faults,
            saving,
            Bound::AtMost,
        )
    }]
}

/// Functions that fault when they are executed lie in W windows of 64 KiB, and fill fewer: the rest is saved at most in each
/// process where the linker puts them side by side. Functions that are executed without a fault do not count: there
/// may be more windows than these.
pub fn order(report: &Report, found: &RegionsFound) -> Vec<Advice> {
    const WINDOW_BYTES: u64 = 64 << 10;
    let timed = report.overview.counts.timed != 0;
    let code = report.code.iter().flatten();
    code.map(|code| {
        let windows = code.bytes.div_ceil(WINDOW_BYTES).max(1) * code.spaces;
        let saving = code.faults.faults.saturating_sub(windows);
        let of_program = |program: &&Program| program.path == code.program;
        let program = found.programs.iter().find(of_program);
        let time_ns = timed.then(|| mean_time(&costs(&code.faults), saving));
        Advice {
            program: code.program.clone(),
            mapping: Some(Name::clone(&code.mapping)),
            time_ns: time_ns.flatten(),
            evidence: vec![
                ("functions", code.functions.len() as u64),
                ("function-kib", code.bytes / 1024),
                ("faults-in-functions", code.faults.faults),
                ("processes", code.spaces),
            ],
            functions: code.functions.clone(),
            ..Advice::new(
                Rule::OrderFile,
                program.map_or(0, |program| program.counts.faults),
                saving,
                Bound::AtMost,
            )
        }
    })
    .collect()
}

/// A mapping of a file is read from end to end: one call maps all of it.
pub fn populate(report: &Report, found: &RegionsFound) -> Vec<Advice> {
    let timed = report.overview.counts.timed != 0;
    let densely = |region: &&Region| {
        let blocks = &region.blocks;
        let windows = WINDOW_BYTES[WINDOW_BYTES.len() - 1] / WINDOW_BYTES[0];
        // At least half of the smallest windows in the largest that were touched at all.
        let dense = blocks.windows[0] * 2 >= blocks.windows[WINDOW_BYTES.len() - 1] * windows;
        region.is_file && region.steps.pattern() == Pattern::Sequential && dense
    };
    let best = found.regions.iter().filter(densely);
    let best = best.max_by_key(|region| region.file_reads.faults);
    best.map(|region| {
        let reads = region.file_reads;
        Advice {
            program: region.program.clone(),
            mapping: region.mapping.clone(),
            time_ns: timed.then_some(reads.time_ns),
            evidence: vec![("file-reads", reads.faults)],
            ..Advice::new(
                Rule::PopulateFile,
                region.counts.faults,
                reads.faults,
                Bound::AtMost,
            )
        }
    })
    .into_iter()
    .collect()
}

/// Pages come from the disk: read before, they cost as much as a minor fault.
pub fn prefetch(report: &Report, found: &RegionsFound) -> Vec<Advice> {
    let mut files: Vec<(&Name, u64, u64)> = Vec::new();
    let mut of_files = Counts::default();
    for region in found.regions.iter().filter(|region| region.is_file) {
        let Some(name) = region.mapping.as_ref().filter(|_| region.counts.major != 0) else {
            continue;
        };
        of_files.merge(&region.counts);
        let Counts {
            major,
            major_time_ns,
            ..
        } = region.counts;
        match files.iter_mut().find(|file| file.0 == name) {
            Some(file) => {
                file.1 += major;
                file.2 += major_time_ns;
            }
            None => files.push((name, major, major_time_ns)),
        }
    }
    if of_files.major == 0 {
        return Vec::new();
    }
    files.sort_by_key(|(name, major, time_ns)| {
        (std::cmp::Reverse((*time_ns, *major)), Name::clone(name))
    });
    let all = &report.overview.counts;
    let minor_time_ns = all.time_ns.saturating_sub(all.major_time_ns);
    let minor_ns = minor_time_ns.checked_div(all.timed.saturating_sub(all.major));
    let slower = minor_ns.unwrap_or(0).saturating_mul(of_files.major);
    vec![Advice {
        time_ns: (all.timed != 0).then(|| of_files.major_time_ns.saturating_sub(slower)),
        evidence: vec![("files", files.len() as u64), ("major", of_files.major)],
        files: files
            .iter()
            .take(FILES_MOST)
            .map(|file| Name::clone(file.0))
            .collect(),
        ..Advice::new(Rule::Prefetch, all.faults, of_files.major, Bound::AtMost)
    }]
}

/// A shared page is emitted its first write more than once: it was cleaned in between.
pub fn dirty_again(report: &Report, found: &RegionsFound) -> Vec<Advice> {
    let again = |region: &&Region| region.touched(Touch::DirtyAgain).faults;
    let saving = found.regions.iter().map(|region| again(&region)).sum();
    let region = found.regions.iter().max_by_key(again);
    let mut cost = Cost::default();
    for region in &found.regions {
        cost.merge(&region.touched(Touch::DirtyAgain));
    }
    let timed = report.overview.counts.timed != 0;
    vec![Advice {
        program: region.and_then(|region| region.program.clone()),
        mapping: region.and_then(|region| region.mapping.clone()),
        time_ns: timed.then_some(cost.time_ns),
        evidence: vec![("dirty-again", saving)],
        ..Advice::new(
            Rule::DirtyAgain,
            report.overview.counts.faults,
            saving,
            Bound::Exact,
        )
    }]
}

#[cfg(test)]
mod tests {
    use super::super::testing::by;
    use super::*;
    use crate::testing::{fault, Builder};
    use fault_tracer_trace::{Fate, Kind};

    fn read(page: u64) -> Builder {
        fault().kind(Kind::FileRead).mapping("/data").page(page)
    }

    #[test]
    fn windows_that_are_too_small() {
        // One fault for each 64 KiB of 64 MiB: the kernel's default.
        let rows = (0..1024).map(|n| read(n * 16).took(10).row());
        let advice = by(Rule::FaultAround, rows).unwrap();
        let window = advice.evidence[1].1;
        assert_eq!(advice.saving, 1024 - 1024 * 64 / window);
        assert!(window >= 512, "{window}");
        assert_eq!(advice.time_ns, Some(advice.saving * 10));
        // One page in each 2 MiB: no window brings two.
        let rows = (0..1024).map(|n| read(n * 512).row());
        assert_eq!(by(Rule::FaultAround, rows), None);
    }

    #[test]
    fn a_file_that_is_read_from_end_to_end() {
        let rows = (0..1024).map(|n| read(n * 16).row());
        let advice = by(Rule::PopulateFile, rows).unwrap();
        assert_eq!(
            (advice.saving, advice.mapping.as_deref()),
            (1024, Some("/data"))
        );
        let random = (0..1024u64).map(|n| read(n * 7919 % 1024 * 16).row());
        assert_eq!(by(Rule::PopulateFile, random), None);
    }

    #[test]
    fn pages_from_the_disk() {
        let cold = (0..100).map(|n| read(n * 512).fate(Fate::Major).took(1_000).row());
        let warm = (0..900).map(|n| fault().page(n * 512).took(10).row());
        let advice = by(Rule::Prefetch, cold.chain(warm.clone())).unwrap();
        assert_eq!((advice.saving, advice.time_ns), (100, Some(100 * 990)));
        assert_eq!(advice.files, ["/data".into()]);
        let minor = (0..100).map(|n| read(n * 512).took(10).row());
        assert_eq!(by(Rule::Prefetch, minor.chain(warm)), None);
    }

    #[test]
    fn shared_pages_that_are_cleaned_too_often() {
        let write = |n: u64| fault().kind(Kind::WriteNotify).mapping("/db").page(n % 100);
        let advice = by(Rule::DirtyAgain, (0..1000).map(|n| write(n).row())).unwrap();
        assert_eq!(
            (advice.saving, advice.mapping.as_deref()),
            (900, Some("/db"))
        );
        assert_eq!(by(Rule::DirtyAgain, (0..100).map(|n| write(n).row())), None);
    }

    #[test]
    fn functions_that_lie_apart() {
        // One function in each MiB, of 4 KiB.
        let apart = |n: u64| fault().program("/bin/a").executed("/bin/a", n << 20);
        let advice = by(Rule::OrderFile, (0..400).map(|n| apart(n).took(2).row())).unwrap();
        assert_eq!((advice.saving, advice.time_ns), (400 - 25, Some(2 * 375)));
        assert_eq!(advice.functions.len(), 400);
        assert_eq!(&*advice.functions[1], "f256");
        // As many, of processes each of which executes one function: none has a window less.
        let one = |n: u32| fault().pid(n + 1).program("/bin/a").executed("/bin/a", 0);
        assert_eq!(by(Rule::OrderFile, (0..400).map(|n| one(n).row())), None);
    }
}
