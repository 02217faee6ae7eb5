// SPDX-License-Identifier: GPL-2.0-only

//! Shapes that the faults of a trace have, over time, over programs and in memory, each with a condition that the
//! numbers of the trace must meet.
//!
//! A trend says what happens; what would save faults is [`crate::advice`].

use fault_tracer_trace::{Kind, Name};

use crate::{
    pages::Touch,
    patterns::Pattern,
    regions::{Program, Region, RegionsFound},
    report::Report,
    series::{Series, STEPS},
};

/// A shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// Faults never stop: of the time, 80 % see a quarter of the mean rate or more.
    Steady,
    /// A part of the time, 40 % or more, has 1 % of the faults at most.
    Silence,
    /// The first 5 % of the time have a fifth of the faults or more.
    StartBurst,
    /// The last 2 % of the time have 4 % of the faults or more, at twice the rate of the tenth of the time before.
    EndBurst,
    /// Half of the programs, of 20 or more, start in a fifth of the time at most.
    ExecStorm,
    /// A quarter of the programs at most, of 4 or more, has half of the faults.
    FewPrograms,
    /// 20 programs or more start, and what the cheapest run of each costs comes to 5 % of all faults.
    ExecPrice,
    /// 20 processes or more are made to execute a program, with 3 faults each before it at most in the mean.
    CheapForks,
    /// 10 processes or more are made, and copies of shared pages are 2 % of the faults.
    ForkCopies,
    /// Code faults when it is executed: 30 times, and 5 % of the faults.
    TextWalk,
    /// Of such faults of a program that runs once, a fifth comes in the second half of the time.
    LateText,
    /// Private pages of files are copied: 20 times, and 3 % of the faults.
    LibraryCopies,
    /// The pages of a file are touched in no order: 200 faults, and 10 % of all.
    RandomFile,
    /// A heap grows page by page: 64 pages, and 3 % of the faults.
    HeapRamp,
    /// Other memory is filled page by page: 64 pages, and 5 % of the faults.
    Buffers,
    /// Memory comes in steps of the size of a huge page, of which each has one fault: 20 steps.
    HugeSteps,
    /// Memory is touched first in no order, over a fifth of the time: 32 pages, and 2 % of the faults.
    RandomMemory,
    /// Pages of a mapping are touched first one after the other, at even intervals over 30 % of the time.
    EvenPace,
    /// Pages are read as the shared page of zeros, and written then: 20, and 2 % of the faults.
    ReadThenWrite,
    /// The kernel touches memory first, for the process: 100 pages, and 3 % of the faults.
    KernelFirst,
    /// Faults are tried again: 50 times, and 0.5 % of the faults.
    TriedAgain,
}

impl Shape {
    /// All of them.
    pub const ALL: [Self; 21] = [
        Self::Steady,
        Self::Silence,
        Self::StartBurst,
        Self::EndBurst,
        Self::ExecStorm,
        Self::FewPrograms,
        Self::ExecPrice,
        Self::CheapForks,
        Self::ForkCopies,
        Self::TextWalk,
        Self::LateText,
        Self::LibraryCopies,
        Self::RandomFile,
        Self::HeapRamp,
        Self::Buffers,
        Self::HugeSteps,
        Self::RandomMemory,
        Self::EvenPace,
        Self::ReadThenWrite,
        Self::KernelFirst,
        Self::TriedAgain,
    ];

    /// Its name in files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Silence => "silence",
            Self::StartBurst => "start-burst",
            Self::EndBurst => "end-burst",
            Self::ExecStorm => "exec-storm",
            Self::FewPrograms => "few-programs",
            Self::ExecPrice => "exec-price",
            Self::CheapForks => "cheap-forks",
            Self::ForkCopies => "fork-copies",
            Self::TextWalk => "text-walk",
            Self::LateText => "late-text",
            Self::LibraryCopies => "library-copies",
            Self::RandomFile => "random-file",
            Self::HeapRamp => "heap-ramp",
            Self::Buffers => "buffers",
            Self::HugeSteps => "huge-steps",
            Self::RandomMemory => "random-memory",
            Self::EvenPace => "even-pace",
            Self::ReadThenWrite => "read-then-write",
            Self::KernelFirst => "kernel-first",
            Self::TriedAgain => "tried-again",
        }
    }
}

/// A trend that a trace shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Trend {
    /// Its shape.
    pub shape: Shape,
    /// The faults that make it.
    pub faults: u64,
    /// Their part (0 to 1) of all; of [`Shape::TriedAgain`], against all faults.
    pub part: f64,
    /// The program with most of them, where they are of programs.
    pub program: Option<Name>,
    /// The mapping with most of them, where they are of mappings.
    pub mapping: Option<Name>,
    /// When, in nanoseconds since the first fault, where it is a part of the time.
    pub span_ns: Option<(u64, u64)>,
    /// The numbers that the condition rests on, with their names.
    pub evidence: Vec<(&'static str, u64)>,
}

/// What the conditions look at.
struct Looked<'a> {
    report: &'a Report,
    found: &'a RegionsFound,
    all: u64,
}

/// The trends of a trace, those of most faults first. None where regions were not wanted.
pub fn trends(report: &Report) -> Vec<Trend> {
    let Some(found) = &report.regions else {
        return Vec::new();
    };
    let looked = Looked {
        report,
        found,
        all: report.overview.counts.faults,
    };
    let mut trends: Vec<_> = Shape::ALL
        .into_iter()
        .filter_map(|shape| looked.look(shape))
        .collect();
    trends.sort_by_key(|trend| (std::cmp::Reverse(trend.faults), trend.shape.name()));
    trends
}

impl Looked<'_> {
    fn look(&self, shape: Shape) -> Option<Trend> {
        match shape {
            Shape::Steady => self.steady(),
            Shape::Silence => self.silence(),
            Shape::StartBurst => self.start_burst(),
            Shape::EndBurst => self.end_burst(),
            Shape::ExecStorm => self.exec_storm(),
            Shape::FewPrograms => self.few_programs(),
            Shape::ExecPrice => self.exec_price(),
            Shape::CheapForks => self.cheap_forks(),
            Shape::ForkCopies => self.fork_copies(),
            Shape::TextWalk => self.text_walk(),
            Shape::LateText => self.late_text(),
            Shape::LibraryCopies => {
                let copies = |region: &Region| region.touched(Touch::FileCopy).faults;
                let loader = self
                    .found
                    .regions
                    .iter()
                    .map(|region| region.relocations.faults);
                let loader = loader.sum();
                let mut trend = self.of_regions(shape, (20, 0.03), |_| true, copies)?;
                trend.evidence.push(("by-loader", loader));
                Some(trend)
            }
            Shape::RandomFile => {
                let random = |region: &Region| region.is_file && is_random(region);
                self.of_regions(shape, (200, 0.1), random, |region| region.counts.faults)
            }
            Shape::HeapRamp => {
                let heap = |region: &Region| is_named(region, "[heap]") && is_in_order(region);
                self.of_regions(shape, (64, 0.03), heap, first_touches)
            }
            Shape::Buffers => {
                let buffer = |region: &Region| {
                    let other = ["[heap]", "[stack]"]
                        .iter()
                        .any(|name| is_named(region, name));
                    !region.is_file && !other && is_in_order(region)
                };
                self.of_regions(shape, (64, 0.05), buffer, first_touches)
            }
            Shape::HugeSteps => {
                let steps = |region: &Region| region.blocks.lone_blocks;
                self.of_regions(shape, (20, 0.0), |_| true, steps)
            }
            Shape::RandomMemory => {
                let random = |region: &Region| {
                    let span = span_of(&region.growth);
                    let long = span.is_some_and(|(begin, end)| (end - begin) * 5 >= self.span());
                    !region.is_file && is_random(region) && long
                };
                self.of_regions(shape, (32, 0.02), random, first_touches)
            }
            Shape::EvenPace => self.even_pace(),
            Shape::ReadThenWrite => {
                let both = |region: &Region| region.touched(Touch::ReadThenWrite).faults;
                self.of_regions(shape, (20, 0.02), |_| true, both)
            }
            Shape::KernelFirst => {
                let kernels = |region: &Region| region.kernel_first.faults;
                self.of_regions(shape, (100, 0.03), |region| !region.is_file, kernels)
            }
            Shape::TriedAgain => {
                let attempts = self.report.overview.tally.attempts();
                let again = attempts.saturating_sub(self.all);
                let trend = self.trend(shape, again);
                (again >= 50 && trend.part >= 0.005).then_some(trend)
            }
        }
    }

    fn trend(&self, shape: Shape, faults: u64) -> Trend {
        Trend {
            shape,
            faults,
            part: faults as f64 / self.all.max(1) as f64,
            program: None,
            mapping: None,
            span_ns: None,
            evidence: Vec::new(),
        }
    }

    /// The time from the first fault to the last, in nanoseconds.
    fn span(&self) -> u64 {
        self.report.overview.span_ns
    }

    /// A trend of the regions that are of a sort, each with so many faults of it, if there are enough.
    fn of_regions(
        &self,
        shape: Shape,
        (least, least_part): (u64, f64),
        is_such: impl Fn(&Region) -> bool,
        faults: impl Fn(&Region) -> u64,
    ) -> Option<Trend> {
        let such = self.found.regions.iter().filter(|region| is_such(region));
        let such: Vec<_> = such.filter(|region| faults(region) != 0).collect();
        let most = such.iter().max_by_key(|region| faults(region))?;
        let sum = such.iter().map(|region| faults(region)).sum();
        let trend = Trend {
            program: most.program.clone(),
            mapping: most.mapping.clone(),
            span_ns: span_of(&most.growth),
            evidence: vec![
                ("mappings", such.len() as u64),
                ("in-the-largest", faults(most)),
            ],
            ..self.trend(shape, sum)
        };
        (sum >= least && trend.part >= least_part).then_some(trend)
    }

    /// The faults of each step of the time, and how long one is; `None` where there are too few steps to see a shape.
    fn steps(&self) -> Option<(Vec<u64>, u64)> {
        let rate = &self.report.overview.rate;
        let steps: Vec<_> = rate.steps().iter().map(|step| step[0]).collect();
        (steps.len() >= STEPS / 2).then(|| (steps, rate.step_ns()))
    }

    fn steady(&self) -> Option<Trend> {
        let (steps, step_ns) = self.steps()?;
        let least = self.all as f64 / steps.len() as f64 / 4.0;
        let busy = steps.iter().filter(|step| **step as f64 >= least).count();
        let peak = steps.iter().enumerate().max_by_key(|step| step.1)?;
        let trend = Trend {
            evidence: vec![
                ("steps", steps.len() as u64),
                ("busy-steps", busy as u64),
                ("peak", *peak.1),
                ("peak-ns", peak.0 as u64 * step_ns),
            ],
            ..self.trend(Shape::Steady, self.all)
        };
        (self.all >= 200 && busy * 5 >= steps.len() * 4).then_some(trend)
    }

    fn silence(&self) -> Option<Trend> {
        let (steps, step_ns) = self.steps()?;
        // The longest run of steps with few faults: both ends go forward.
        let (mut begin, mut sum, mut longest) = (0, 0, (0, 0, 0));
        for (end, step) in steps.iter().enumerate() {
            sum += step;
            while sum * 100 > self.all {
                sum -= steps[begin];
                begin += 1;
            }
            let length = end + 1 - begin;
            if length > longest.1 {
                longest = (begin, length, sum);
            }
        }
        let (begin, length, faults) = longest;
        let trend = Trend {
            span_ns: Some((begin as u64 * step_ns, (begin + length) as u64 * step_ns)),
            ..self.trend(Shape::Silence, faults)
        };
        (length * 5 >= steps.len() * 2 && self.all >= 100).then_some(trend)
    }

    fn start_burst(&self) -> Option<Trend> {
        let (steps, step_ns) = self.steps()?;
        let width = steps.len().div_ceil(20);
        let faults = steps[..width].iter().sum();
        let trend = Trend {
            span_ns: Some((0, width as u64 * step_ns)),
            ..self.trend(Shape::StartBurst, faults)
        };
        (trend.part >= 0.2).then_some(trend)
    }

    fn end_burst(&self) -> Option<Trend> {
        let (steps, step_ns) = self.steps()?;
        let (width, wide) = (steps.len().div_ceil(50), steps.len() / 10);
        let end = steps.len() - width;
        let before = end - wide;
        let faults: u64 = steps[end..].iter().sum();
        let usual: u64 = steps[before..end].iter().sum();
        let trend = Trend {
            span_ns: Some((end as u64 * step_ns, self.span())),
            ..self.trend(Shape::EndBurst, faults)
        };
        let is_faster = usual * width as u64 * 2 <= faults * wide as u64;
        (trend.part >= 0.04 && is_faster).then_some(trend)
    }

    fn exec_storm(&self) -> Option<Trend> {
        let (rate, rate_ns) = self.steps()?;
        let starts = &self.report.overview.starts;
        let counts: Vec<_> = starts.steps().iter().map(|step| step[0]).collect();
        let execs: u64 = counts.iter().sum();
        // The shortest run of steps with half of them.
        let (mut begin, mut sum, mut shortest) = (0, 0, None);
        for (end, count) in counts.iter().enumerate() {
            sum += count;
            while (sum - counts[begin]) * 2 >= execs && begin < end {
                sum -= counts[begin];
                begin += 1;
            }
            let length = end + 1 - begin;
            if sum * 2 >= execs && shortest.is_none_or(|(_, shortest)| length < shortest) {
                shortest = Some((begin, length));
            }
        }
        let (begin, length) = shortest?;
        let step_ns = starts.step_ns();
        let span = (begin as u64 * step_ns, (begin + length) as u64 * step_ns);
        let within = |n: &usize| (span.0..span.1).contains(&(*n as u64 * rate_ns));
        let faults = (0..rate.len()).filter(within).map(|n| rate[n]).sum();
        let trend = Trend {
            span_ns: Some(span),
            evidence: vec![("execs", execs)],
            ..self.trend(Shape::ExecStorm, faults)
        };
        (execs >= 20 && (span.1 - span.0) * 5 <= self.span()).then_some(trend)
    }

    fn few_programs(&self) -> Option<Trend> {
        let programs = &self.found.programs;
        let (mut faults, mut few) = (0, 0);
        // Those with most faults stand first.
        for program in programs {
            if faults * 2 >= self.all {
                break;
            }
            faults += program.counts.faults;
            few += 1;
        }
        let trend = Trend {
            program: programs.first()?.path.clone(),
            evidence: vec![("few", few), ("programs", programs.len() as u64)],
            ..self.trend(Shape::FewPrograms, faults)
        };
        (programs.len() >= 4 && few * 4 <= programs.len() as u64).then_some(trend)
    }

    fn exec_price(&self) -> Option<Trend> {
        let price = |program: &&Program| program.execs * program.least_faults;
        let programs = self.found.programs.iter();
        let most = programs.clone().max_by_key(price)?;
        let execs: u64 = programs.clone().map(|program| program.execs).sum();
        let faults = programs.map(|program| price(&program)).sum();
        let trend = Trend {
            program: most.path.clone(),
            evidence: vec![
                ("execs", execs),
                ("runs", most.execs),
                ("fewest-faults", most.least_faults),
            ],
            ..self.trend(Shape::ExecPrice, faults)
        };
        (execs >= 20 && trend.part >= 0.05).then_some(trend)
    }

    fn cheap_forks(&self) -> Option<Trend> {
        let programs = self.found.programs.iter();
        let forks: u64 = programs.clone().map(|program| program.forks_to_exec).sum();
        let faults: u64 = programs.map(|program| program.before_exec.faults).sum();
        let trend = Trend {
            evidence: vec![("forks", forks)],
            ..self.trend(Shape::CheapForks, faults)
        };
        (forks >= 20 && faults <= forks * 3).then_some(trend)
    }

    fn fork_copies(&self) -> Option<Trend> {
        let forks = self.report.overview.forks;
        let of_program = |program: &Program| {
            program.copies_before_exec.faults
                + program.copies_in_children.faults
                + program.copies_in_parent.faults
        };
        let programs = self.found.programs.iter();
        let most = programs.clone().max_by_key(|program| of_program(program))?;
        let trend = Trend {
            program: most.path.clone(),
            evidence: vec![("forks", forks)],
            ..self.trend(Shape::ForkCopies, programs.map(of_program).sum())
        };
        (forks >= 10 && trend.part >= 0.02).then_some(trend)
    }

    fn text_walk(&self) -> Option<Trend> {
        let overview = &self.report.overview;
        let faults = overview.kinds[Kind::FileExecute as usize].faults;
        let programs = self.found.programs.iter();
        let most = programs.max_by_key(|program| code_faults(program).0)?;
        let trend = Trend {
            program: most.path.clone(),
            evidence: vec![("execs", overview.execs)],
            ..self.trend(Shape::TextWalk, faults)
        };
        (faults >= 30 && trend.part >= 0.05).then_some(trend)
    }

    fn late_text(&self) -> Option<Trend> {
        // Late in the trace is late in the run of a program that runs once.
        let once = |program: &&Program| program.execs <= 1;
        let programs = self.found.programs.iter().filter(once);
        let most = programs
            .clone()
            .max_by_key(|program| code_faults(program).1)?;
        let sums = programs.map(code_faults);
        let (all, late) = sums.fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
        let trend = Trend {
            program: most.path.clone(),
            evidence: vec![("all", all)],
            ..self.trend(Shape::LateText, late)
        };
        (all >= 30 && late * 5 >= all).then_some(trend)
    }

    fn even_pace(&self) -> Option<Trend> {
        let even = |region: &&Region| {
            let steps = region.growth.steps();
            let Some(first) = steps.iter().position(|step| step[0] != 0) else {
                return false;
            };
            // The first and the last step are cut off.
            let Some(inner) = steps.get(first + 1..steps.len().saturating_sub(1)) else {
                return false;
            };
            let counts = || inner.iter().map(|step| step[0]);
            let (least, most) = (counts().min().unwrap_or(0), counts().max().unwrap_or(0));
            let long = inner.len() as u64 * region.growth.step_ns() * 10 >= self.span() * 3;
            inner.len() >= 6 && least > 0 && most <= least + least.div_ceil(2) && long
        };
        let regions = self.found.regions.iter().filter(|of| is_in_order(of));
        let region = regions.filter(even).max_by_key(|of| first_touches(of))?;
        let faults = first_touches(region);
        Some(Trend {
            program: region.program.clone(),
            mapping: region.mapping.clone(),
            span_ns: span_of(&region.growth),
            ..self.trend(Shape::EvenPace, faults)
        })
    }
}

/// Faults of a program in code that is executed, and those in the second half of the time.
fn code_faults(program: &Program) -> (u64, u64) {
    (program.code_faults, program.late_code_faults)
}

fn first_touches(region: &Region) -> u64 {
    region.touched(Touch::First).faults
}

fn is_named(region: &Region, name: &str) -> bool {
    region.mapping.as_deref() == Some(name)
}

fn is_random(region: &Region) -> bool {
    region.steps.pattern() == Pattern::Random
}

fn is_in_order(region: &Region) -> bool {
    matches!(
        region.steps.pattern(),
        Pattern::Sequential | Pattern::Backward
    )
}

/// From the first step that has any to the end of the last, in nanoseconds.
fn span_of(series: &Series<1>) -> Option<(u64, u64)> {
    let steps = series.steps();
    let first = steps.iter().position(|step| step[0] != 0)? as u64;
    let step_ns = series.step_ns();
    Some((first * step_ns, steps.len() as u64 * step_ns))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        testing::{event, fault, Builder},
        Analysis, Wanted,
    };
    use fault_tracer_trace::{Access, Metadata, Row, ThreadEvent};
    use fault_tracer_uapi::fault_flag;

    const MS: u64 = 1_000_000;

    fn of(rows: impl IntoIterator<Item = Row>) -> Vec<Trend> {
        let wanted = Wanted {
            regions: true,
            ..Wanted::default()
        };
        let mut analysis = Analysis::new(&wanted, &Metadata::default());
        for row in rows {
            analysis.add(&row, &mut ());
        }
        trends(&analysis.finish())
    }

    /// The trend of a shape, if there is one.
    fn by(shape: Shape, rows: impl IntoIterator<Item = Row>) -> Option<Trend> {
        of(rows).into_iter().find(|trend| trend.shape == shape)
    }

    /// A fault of a program, which is not in order with the one before.
    fn scattered(n: u64) -> Builder {
        fault().program("/bin/a").page(n.reverse_bits() >> 50)
    }

    /// One at each millisecond.
    fn evenly(count: u64) -> impl Iterator<Item = Row> {
        (0..count).map(|n| scattered(n).time(n * MS).row())
    }

    #[test]
    fn a_trace_of_nothing_has_no_trend() {
        assert_eq!(of([]), []);
        assert_eq!(of([fault().row()]), []);
    }

    #[test]
    fn faults_that_never_stop() {
        let trend = by(Shape::Steady, evenly(1000)).unwrap();
        assert_eq!((trend.faults, trend.part), (1000, 1.0));
        // The same number at the start, and one at the end.
        let start = (0..1000).map(|n| scattered(n).time(n).row());
        let end = scattered(1000).time(1000 * MS).row();
        let rows: Vec<_> = start.chain([end]).collect();
        assert_eq!(by(Shape::Steady, rows.clone()), None);
        let trend = by(Shape::StartBurst, rows.clone()).unwrap();
        assert_eq!(trend.faults, 1000);
        let silence = by(Shape::Silence, rows).unwrap();
        let (begin, end) = silence.span_ns.unwrap();
        assert!(begin < 50 * MS && end > 900 * MS, "{silence:?}");
        assert_eq!(by(Shape::Silence, evenly(1000)), None);
        assert_eq!(by(Shape::StartBurst, evenly(1000)), None);
    }

    #[test]
    fn faults_at_the_end() {
        let end = (0..100).map(|n| scattered(5000 + n).time(1000 * MS).row());
        let trend = by(Shape::EndBurst, evenly(1000).chain(end)).unwrap();
        assert!(trend.faults >= 100, "{trend:?}");
        assert_eq!(by(Shape::EndBurst, evenly(1000)), None);
    }

    /// So many programs, one at each so many milliseconds, with four faults each.
    fn programs(count: u32, each_ms: u64) -> impl Iterator<Item = Row> {
        (0..count).flat_map(move |n| {
            let time_ns = u64::from(n) * each_ms * MS;
            let mut rows = vec![event(ThreadEvent::Exec, n + 10, n + 10)];
            if let Row::Thread(row) = &mut rows[0] {
                row.time_ns = time_ns;
                row.program = Some("/bin/tool".into());
            }
            rows.extend((0..4).map(|page| {
                let fault = fault().pid(n + 10).program("/bin/tool");
                fault.page(page * 7).time(time_ns).row()
            }));
            rows
        })
    }

    #[test]
    fn programs_that_start() {
        // At once, and then another for a long time.
        let long = (0..50).map(|n| scattered(n).time((100 + n * 20) * MS).row());
        let rows: Vec<_> = programs(40, 1).chain(long).collect();
        let trend = by(Shape::ExecStorm, rows.clone()).unwrap();
        assert_eq!(trend.evidence, [("execs", 40)]);
        let price = by(Shape::ExecPrice, rows).unwrap();
        assert_eq!(
            (price.faults, price.program.as_deref()),
            (160, Some("/bin/tool"))
        );
        // As many, over the whole time; and a few.
        assert_eq!(by(Shape::ExecStorm, programs(40, 25)), None);
        assert_eq!(by(Shape::ExecPrice, programs(10, 1)), None);
    }

    #[test]
    fn few_programs_of_many() {
        let one = |name: &str, count: u64| {
            let name = name.to_owned();
            (0..count).map(move |n| fault().program(&name).page(n * 9).row())
        };
        let others = || one("/b", 10).chain(one("/c", 10)).chain(one("/d", 10));
        let trend = by(Shape::FewPrograms, one("/a", 100).chain(others())).unwrap();
        assert_eq!(trend.evidence, [("few", 1), ("programs", 4)]);
        assert_eq!(by(Shape::FewPrograms, one("/a", 12).chain(others())), None);
    }

    /// So many children, each of which copies so many pages before it executes a program.
    fn forks(count: u32, copies: u64) -> impl Iterator<Item = Row> {
        (0..count).flat_map(move |n| {
            let pid = n + 10;
            let copy = |page| {
                let fault = fault().pid(pid).program("/bin/sh");
                fault.kind(Kind::CopyOnWrite).page(page).row()
            };
            let mut rows = vec![event(ThreadEvent::Fork, pid, pid)];
            rows.extend((0..copies).map(copy));
            rows.push(event(ThreadEvent::Exec, pid, pid));
            rows
        })
    }

    #[test]
    fn processes_that_are_made() {
        let shell = || fault().program("/bin/sh").row();
        let trend = by(Shape::CheapForks, [shell()].into_iter().chain(forks(30, 2))).unwrap();
        assert_eq!((trend.faults, &trend.evidence[0]), (60, &("forks", 30)));
        let dear: Vec<_> = [shell()].into_iter().chain(forks(30, 20)).collect();
        assert_eq!(by(Shape::CheapForks, dear.clone()), None);
        assert_eq!(by(Shape::ForkCopies, dear).unwrap().faults, 600);
        assert_eq!(by(Shape::ForkCopies, forks(30, 0)), None);
    }

    #[test]
    fn code_that_is_executed() {
        let code = |n: u64| {
            let fault = fault().program("/bin/a").executed("/bin/a", n << 16);
            fault.page(n * 16).access(Access::Execute)
        };
        let late: Vec<_> = (0..100).map(|n| code(n).time(n * MS).row()).collect();
        assert_eq!(by(Shape::TextWalk, late.clone()).unwrap().faults, 100);
        let trend = by(Shape::LateText, late).unwrap();
        assert!((40..=50).contains(&trend.faults), "{trend:?}");
        // At the start, and among many others.
        let early = (0..100).map(|n| code(n).time(n).row());
        let rows: Vec<_> = early.chain(evenly(3000)).collect();
        assert_eq!(by(Shape::LateText, rows.clone()), None);
        assert_eq!(by(Shape::TextWalk, rows), None);
    }

    #[test]
    fn files_that_are_copied_and_read_in_no_order() {
        let copy = |n: u64| {
            fault()
                .mapping("/lib/c.so")
                .kind(Kind::FileCopy)
                .page(n)
                .row()
        };
        assert_eq!(
            by(Shape::LibraryCopies, (0..30).map(copy)).unwrap().faults,
            30
        );
        assert_eq!(by(Shape::LibraryCopies, (0..10).map(copy)), None);
        let read = |page: u64| {
            fault()
                .mapping("/data")
                .kind(Kind::FileRead)
                .page(page)
                .row()
        };
        let random = (0..300u64).map(|n| read(n.reverse_bits() >> 50));
        let trend = by(Shape::RandomFile, random).unwrap();
        assert_eq!(
            (trend.faults, trend.mapping.as_deref()),
            (300, Some("/data"))
        );
        assert_eq!(by(Shape::RandomFile, (0..300).map(read)), None);
    }

    #[test]
    fn memory_that_is_filled_in_order() {
        let heap = |page| fault().mapping("[heap]").page(page).row();
        assert_eq!(by(Shape::HeapRamp, (0..100).map(heap)).unwrap().faults, 100);
        assert_eq!(
            by(
                Shape::HeapRamp,
                (0..100u64).map(|n| heap(n.reverse_bits() >> 50))
            ),
            None
        );
        let buffer = |page| fault().page(page).row();
        assert_eq!(
            by(Shape::Buffers, (0..100).map(buffer)).unwrap().faults,
            100
        );
        assert_eq!(by(Shape::Buffers, (0..100).map(heap)), None);
    }

    #[test]
    fn memory_that_comes_in_huge_pages() {
        let huge = |n: u64| fault().page(n * 512).row();
        assert_eq!(by(Shape::HugeSteps, (0..30).map(huge)).unwrap().faults, 30);
        // Two pages of each; and blocks that stand alone.
        let both =
            (0..30u64).flat_map(|n| [fault().page(n * 512).row(), fault().page(n * 512 + 9).row()]);
        assert_eq!(by(Shape::HugeSteps, both), None);
        assert_eq!(by(Shape::HugeSteps, (0..30).map(|n| huge(n * 2))), None);
    }

    #[test]
    fn memory_that_is_touched_in_no_order_and_at_even_pace() {
        assert_eq!(by(Shape::RandomMemory, evenly(500)).unwrap().faults, 500);
        // At once; what comes later is of another.
        let early = (0..500).map(|n| scattered(n).time(n).row());
        let last = fault().mapping("[heap]").time(1000 * MS).row();
        assert_eq!(by(Shape::RandomMemory, early.chain([last])), None);
        let pace = (0..500).map(|n| fault().page(n).time(n * MS).row());
        assert_eq!(by(Shape::EvenPace, pace).unwrap().faults, 500);
        // Faster and faster.
        let faster = (0..500).map(|n| {
            fault()
                .page(n)
                .time(1000 * MS - 250_000 * MS / (n + 250))
                .row()
        });
        assert_eq!(by(Shape::EvenPace, faster), None);
    }

    #[test]
    fn pages_that_are_read_first_and_those_that_the_kernel_fills() {
        let both = (0..50u64).flat_map(|page| {
            let read = fault().page(page * 3).kind(Kind::ZeroPage);
            [
                read.row(),
                fault().page(page * 3).kind(Kind::CopyOnWrite).row(),
            ]
        });
        assert_eq!(by(Shape::ReadThenWrite, both).unwrap().faults, 50);
        assert_eq!(by(Shape::ReadThenWrite, evenly(50)), None);
        // A fault of the tests bears no flag, as those of the kernel.
        assert_eq!(by(Shape::KernelFirst, evenly(200)).unwrap().faults, 200);
        let own = (0..200).map(|n| scattered(n).flags(fault_flag::USER as u16).row());
        assert_eq!(by(Shape::KernelFirst, own), None);
    }

    #[test]
    fn faults_that_are_tried_again() {
        let twice = |n| scattered(n).attempts(2).row();
        let trend = by(Shape::TriedAgain, (0..100).map(twice)).unwrap();
        assert_eq!((trend.faults, trend.part), (100, 1.0));
        assert_eq!(by(Shape::TriedAgain, (0..30).map(twice)), None);
    }

    #[test]
    fn those_of_most_faults_come_first() {
        let found = of(evenly(1000));
        assert!(found.windows(2).all(|two| two[0].faults >= two[1].faults));
        let mut names: Vec<_> = Shape::ALL.map(Shape::name).into();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Shape::ALL.len());
    }
}
