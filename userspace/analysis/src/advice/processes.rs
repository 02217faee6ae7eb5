// SPDX-License-Identifier: GPL-2.0-only

//! Rules on what starting programs and processes costs.

use super::{mean_time, Advice, Bound, Rule};
use crate::{
    regions::{Cost, RegionsFound},
    report::Report,
};

/// Fewer runs of a program are no storm.
const RUNS_LEAST: u64 = 10;

/// The dynamic loader copies pages of libraries to write addresses into them: at most these are saved.
pub fn relocation(report: &Report, found: &RegionsFound) -> Vec<Advice> {
    let timed = report.overview.counts.timed != 0;
    found
        .programs
        .iter()
        .map(|program| {
            let mut cost = Cost::default();
            let of = |region: &&crate::Region| region.program == program.path;
            for region in found.regions.iter().filter(of) {
                cost.merge(&region.relocations);
            }
            Advice {
                program: program.path.clone(),
                time_ns: timed.then_some(cost.time_ns),
                evidence: vec![("copies-by-loader", cost.faults), ("runs", program.execs)],
                ..Advice::new(
                    Rule::Relocation,
                    program.counts.faults,
                    cost.faults,
                    Bound::AtMost,
                )
            }
        })
        .collect()
}

/// A program runs many times, and each run costs at least so many faults: all but one run's are saved at most.
pub fn exec_storm(_: &Report, found: &RegionsFound) -> Vec<Advice> {
    found
        .programs
        .iter()
        .filter(|program| program.execs >= RUNS_LEAST)
        .map(|program| {
            let saving = (program.execs - 1) * program.least_faults;
            Advice {
                program: program.path.clone(),
                time_ns: mean_time(&program.counts, saving),
                evidence: vec![
                    ("runs", program.execs),
                    ("fewest-faults", program.least_faults),
                ],
                ..Advice::new(
                    Rule::ExecStorm,
                    program.counts.faults,
                    saving,
                    Bound::AtMost,
                )
            }
        })
        .collect()
}

/// Copies between `fork` and `exec`: none of them is made by `posix_spawn` or `vfork`.
pub fn fork_copies(report: &Report, found: &RegionsFound) -> Vec<Advice> {
    let timed = report.overview.counts.timed != 0;
    found
        .programs
        .iter()
        .map(|program| {
            let copies = program.copies_before_exec;
            Advice {
                program: program.path.clone(),
                time_ns: timed.then_some(copies.time_ns),
                evidence: vec![
                    ("copies-before-exec", copies.faults),
                    ("faults-before-exec", program.before_exec.faults),
                    ("copies-in-parent", program.copies_in_parent.faults),
                ],
                ..Advice::new(
                    Rule::ForkCopies,
                    program.counts.faults,
                    copies.faults,
                    Bound::Exact,
                )
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::by;
    use super::*;
    use crate::testing::{event, fault};
    use fault_tracer_trace::{Kind, Row, ThreadEvent};

    #[test]
    fn copies_by_the_loader() {
        let copies = |object: &str| -> Vec<Row> {
            let copy = |n| fault().kind(Kind::FileCopy).mapping("/lib/x.so").page(n);
            (0..300)
                .map(|n| copy(n).code(object, n).took(2).row())
                .collect()
        };
        let advice = by(Rule::Relocation, copies("/lib64/ld-linux-x86-64.so.2")).unwrap();
        assert_eq!((advice.saving, advice.time_ns), (300, Some(600)));
        assert_eq!(by(Rule::Relocation, copies("/bin/a")), None);
    }

    #[test]
    fn a_program_that_runs_too_often() {
        let runs = |count: u32| {
            (1..=count).flat_map(|pid| {
                let faults = (0..50 + u64::from(pid)).map(move |n| {
                    let fault = fault().pid(pid).program("/bin/cc").page(n * 600);
                    fault.took(3).row()
                });
                [event(ThreadEvent::Exec, pid, pid)]
                    .into_iter()
                    .chain(faults)
            })
        };
        let advice = by(Rule::ExecStorm, runs(20)).unwrap();
        assert_eq!(
            (advice.saving, advice.time_ns),
            (19 * 51, Some(19 * 51 * 3))
        );
        assert_eq!(by(Rule::ExecStorm, runs(9)), None);
    }

    #[test]
    fn copies_before_an_exec() {
        let children = |exec: bool| {
            (1..=20).flat_map(move |pid| {
                let copies = (0..30).map(move |n| {
                    let copy = fault().pid(pid).program("/bin/server");
                    copy.kind(Kind::CopyOnWrite).page(n).row()
                });
                let end = if exec {
                    ThreadEvent::Exec
                } else {
                    ThreadEvent::Exit
                };
                [event(ThreadEvent::Fork, pid, pid)]
                    .into_iter()
                    .chain(copies)
                    .chain([event(end, pid, pid)])
            })
        };
        let advice = by(Rule::ForkCopies, children(true)).unwrap();
        assert_eq!((advice.faults, advice.saving), (600, 600));
        assert_eq!(by(Rule::ForkCopies, children(false)), None);
    }
}
