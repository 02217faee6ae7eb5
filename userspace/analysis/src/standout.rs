// SPDX-License-Identifier: GPL-2.0-only

//! What is worth a look first.

use fault_tracer_trace::{Kind, Name};

use crate::{pages::Touch, patterns::Pattern, regions::Cost, report::Report, series::STEPS};

/// Less than this part of all faults, or of the time in them, is not worth a word.
const LEAST_PART: f64 = 0.05;

/// What stands out.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// Pages that are filled with zeros again after they were given back, most of them in this mapping of this program.
    Again {
        /// The program.
        program: Option<Name>,
        /// Its mapping.
        mapping: Option<Name>,
        /// Different pages of the mapping.
        pages: u64,
    },
    /// Major faults, most of them in this mapping.
    Major {
        /// The mapping, summed over the programs.
        mapping: Option<Name>,
        /// Its part (0 to 1) of the major faults.
        mapping_part: f64,
    },
    /// Pages that are read first, as the shared page of zeros, and written then.
    ReadThenWrite,
    /// Copies of pages that processes share since a fork.
    ForkCopies {
        /// Processes that were forked.
        forks: u64,
    },
    /// Starting programs: of each, the fewest faults of a run, by its runs.
    Execs {
        /// Programs that were executed.
        execs: u64,
        /// Of the program with most of these faults, the path.
        program: Option<Name>,
        /// Its runs.
        runs: u64,
        /// Its fewest faults.
        least: u64,
    },
    /// One program among several.
    Program {
        /// The program.
        program: Option<Name>,
        /// All programs.
        programs: u64,
    },
    /// One mapping of one program.
    Mapping {
        /// The program.
        program: Option<Name>,
        /// The mapping.
        mapping: Option<Name>,
        /// How it is walked.
        pattern: Pattern,
        /// Its different pages.
        pages: u64,
    },
    /// A short time with many of the faults.
    Burst {
        /// When it begins, in nanoseconds since the first fault.
        begin_ns: u64,
        /// How long it is, in nanoseconds.
        length_ns: u64,
        /// Of the time from the first fault to the last, its part (0 to 1).
        time_part: f64,
    },
    /// First writes to anonymous memory.
    FirstTouch,
}

/// Something that stands out, with its evidence.
#[derive(Clone, Debug, PartialEq)]
pub struct StandOut {
    /// What.
    pub what: What,
    /// Its faults.
    pub cost: Cost,
    /// Their part (0 to 1) of all faults.
    pub part: f64,
    /// The part (0 to 1) of their time in all time in faults, where faults have durations.
    pub time_part: Option<f64>,
}

/// The things that stand out most, at most `most` of them. None where regions were not wanted.
pub fn stand_out(report: &Report, most: usize) -> Vec<StandOut> {
    let mut candidates = candidates(report);
    candidates.retain(|(_, found)| found.part.max(found.time_part.unwrap_or(0.0)) >= LEAST_PART);
    candidates.sort_by(|one, other| {
        let rank = |(weight, found): &(f64, StandOut)| {
            weight * found.part.max(found.time_part.unwrap_or(0.0))
        };
        rank(other).total_cmp(&rank(one))
    });
    candidates
        .into_iter()
        .map(|(_, found)| found)
        .take(most)
        .collect()
}

/// All that there is, with weights: what has a cause goes before what only has a place.
fn candidates(report: &Report) -> Vec<(f64, StandOut)> {
    let overview = &report.overview;
    let all = &overview.counts;
    let Some(found) = report.regions.as_ref().filter(|_| all.faults != 0) else {
        return Vec::new();
    };
    let stand_out = |what, cost: Cost| StandOut {
        what,
        cost,
        part: cost.faults as f64 / all.faults as f64,
        time_part: (all.time_ns != 0).then(|| cost.time_ns as f64 / all.time_ns as f64),
    };
    let touched = |touches: &[Touch]| {
        let mut sum = Cost::default();
        for region in &found.regions {
            for touch in touches {
                sum.merge(&region.touched(*touch));
            }
        }
        sum
    };
    let mut candidates = Vec::new();

    let again = |region: &&crate::Region| region.touched(Touch::Again).faults;
    if let Some(region) = found.regions.iter().max_by_key(again) {
        let what = What::Again {
            program: region.program.clone(),
            mapping: region.mapping.clone(),
            pages: region.pages,
        };
        candidates.push((1.5, stand_out(what, touched(&[Touch::Again]))));
    }
    if all.major != 0 {
        let mut files: Vec<(&Option<Name>, u64)> = Vec::new();
        for region in &found.regions {
            match files.iter_mut().find(|file| file.0 == &region.mapping) {
                Some(file) => file.1 += region.counts.major,
                None => files.push((&region.mapping, region.counts.major)),
            }
        }
        if let Some((mapping, major)) = files.into_iter().max_by_key(|file| file.1) {
            let what = What::Major {
                mapping: mapping.clone(),
                mapping_part: major as f64 / all.major as f64,
            };
            let cost = Cost {
                faults: all.major,
                time_ns: all.major_time_ns,
            };
            candidates.push((1.5, stand_out(what, cost)));
        }
    }
    candidates.push((
        1.5,
        stand_out(What::ReadThenWrite, touched(&[Touch::ReadThenWrite])),
    ));
    let copies = touched(&[Touch::ForkChild, Touch::ForkParent]);
    let forks = overview.forks;
    candidates.push((1.5, stand_out(What::ForkCopies { forks }, copies)));
    let starts = found
        .programs
        .iter()
        .map(|program| (program.execs * program.least_faults, program));
    if let Some((_, program)) = starts.clone().max_by_key(|start| start.0) {
        let what = What::Execs {
            execs: overview.execs,
            program: program.path.clone(),
            runs: program.execs,
            least: program.least_faults,
        };
        let cost = Cost {
            faults: starts.map(|start| start.0).sum(),
            time_ns: 0,
        };
        if overview.execs >= 4 {
            candidates.push((1.2, stand_out(what, cost)));
        }
    }
    if found.programs.len() > 1 {
        let program = &found.programs[0];
        let what = What::Program {
            program: program.path.clone(),
            programs: found.programs.len() as u64,
        };
        candidates.push((0.5, stand_out(what, cost_of(&program.counts))));
    }
    if let Some(region) = found.regions.first() {
        let what = What::Mapping {
            program: region.program.clone(),
            mapping: region.mapping.clone(),
            pattern: region.steps.pattern(),
            pages: region.pages,
        };
        candidates.push((0.8, stand_out(what, cost_of(&region.counts))));
    }
    candidates.extend(burst(report).map(|(what, faults)| {
        let cost = Cost { faults, time_ns: 0 };
        (0.7, stand_out(what, cost))
    }));
    let first = &overview.kinds[Kind::ZeroFill as usize];
    let again = touched(&[Touch::Again]);
    let first = Cost {
        faults: first.faults.saturating_sub(again.faults),
        time_ns: first.time_ns.saturating_sub(again.time_ns),
    };
    candidates.push((0.6, stand_out(What::FirstTouch, first)));
    candidates
}

fn cost_of(counts: &crate::Counts) -> Cost {
    Cost {
        faults: counts.faults,
        time_ns: counts.time_ns,
    }
}

/// The twentieth part of the time that has most faults, if it has at least a third of them, and the trace is
/// long enough to tell.
fn burst(report: &Report) -> Option<(What, u64)> {
    let overview = &report.overview;
    let steps = overview.rate.steps();
    let width = steps.len() / 20;
    if steps.len() < STEPS / 2 || width == 0 {
        return None;
    }
    let (begin, faults) = steps
        .windows(width)
        .map(|steps| steps.iter().map(|step| step[0]).sum::<u64>())
        .enumerate()
        .max_by_key(|window| window.1)?;
    let step_ns = overview.rate.step_ns();
    let what = What::Burst {
        begin_ns: begin as u64 * step_ns,
        length_ns: width as u64 * step_ns,
        time_part: width as f64 / steps.len() as f64,
    };
    (faults * 3 >= overview.counts.faults).then_some((what, faults))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        testing::{fault, Builder},
        Analysis, Wanted,
    };
    use fault_tracer_trace::{Fate, Metadata};

    fn found(faults: impl IntoIterator<Item = Builder>) -> Vec<StandOut> {
        let wanted = Wanted {
            regions: true,
            ..Wanted::default()
        };
        let mut analysis = Analysis::new(&wanted, &Metadata::default());
        for fault in faults {
            analysis.add(&fault.row(), &mut ());
        }
        stand_out(&analysis.finish(), 3)
    }

    #[test]
    fn nothing_stands_out_of_nothing() {
        assert_eq!(found([]), []);
    }

    #[test]
    fn churn_comes_first_with_its_numbers() {
        let faults = (0..100).map(|n| fault().program("/bin/a").page(n % 10).took(1));
        let found = found(faults);
        let What::Again { mapping, pages, .. } = &found[0].what else {
            panic!("{found:?}");
        };
        assert_eq!((mapping.as_deref(), *pages), (Some("[anon]"), 10));
        assert_eq!((found[0].cost.faults, found[0].part), (90, 0.9));
        assert_eq!(found[0].time_part, Some(0.9));
    }

    #[test]
    fn few_slow_faults_stand_out_by_their_time() {
        let minor = (0..1000).map(|n| fault().page(n).took(1_000));
        let major = (0..10).map(|n| {
            let fault = fault().page(n).mapping("/data").kind(Kind::FileRead);
            fault.fate(Fate::Major).took(1_000_000)
        });
        let found = found(minor.chain(major));
        let What::Major { mapping, .. } = &found[0].what else {
            panic!("{found:?}");
        };
        assert_eq!(mapping.as_deref(), Some("/data"));
        assert!(found[0].time_part > Some(0.9));
    }

    #[test]
    fn a_burst_is_found_where_it_is() {
        let faults = (0..1000u64).map(|n| {
            let time = if n % 2 == 0 {
                n * 10_000_000
            } else {
                3_000_000_000
            };
            fault().page(n).time(time)
        });
        let burst = found(faults)
            .into_iter()
            .find_map(|found| match found.what {
                What::Burst {
                    begin_ns,
                    length_ns,
                    ..
                } => Some((begin_ns, length_ns)),
                _ => None,
            });
        let (begin, length) = burst.expect("a burst");
        assert!((begin..begin + length).contains(&3_000_000_000));
    }
}
