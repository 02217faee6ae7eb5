// SPDX-License-Identifier: GPL-2.0-only

//! What happens in the mappings of each program: touches, patterns, what windows and huge pages would save.

use fault_tracer_trace::{Fate, Kind, Name, PageSize, ResolvedFault};
use fault_tracer_uapi::fault_flag;
use rustc_hash::FxHashMap;

use crate::{
    counts::Counts,
    names::Names,
    pages::{Blocks, PageStates, Touch, Where},
    patterns::{Steps, Walks},
    series::Series,
    spaces::{Origin, Space, Spaces},
};

/// Faults, and the time that they took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// How many.
    pub faults: u64,
    /// Sum of the durations that are known, in nanoseconds.
    pub time_ns: u64,
}

impl Cost {
    /// Adds a fault.
    pub fn add(&mut self, fault: &ResolvedFault) {
        self.faults += 1;
        self.time_ns = self
            .time_ns
            .saturating_add(fault.duration_ns.unwrap_or_default());
    }

    /// Adds those of others.
    pub fn merge(&mut self, other: &Self) {
        self.faults += other.faults;
        self.time_ns = self.time_ns.saturating_add(other.time_ns);
    }
}

/// A mapping of a program, in all processes that run the program.
#[derive(Clone, Debug, Default)]
pub struct Region {
    /// The program, if it is known.
    pub program: Option<Name>,
    /// The mapping, if it is known.
    pub mapping: Option<Name>,
    /// Whether it is a file.
    pub is_file: bool,
    /// Its faults.
    pub counts: Counts,
    /// Different pages of completed faults, those of different processes apart.
    pub pages: u64,
    /// First touches over time.
    pub growth: Series<1>,
    /// How many of them came in the second half of the trace's time.
    pub late_touches: u64,
    /// Those of them that the kernel made, in a system call or on behalf of the process.
    pub kernel_first: Cost,
    /// By [`Touch::ALL`].
    pub touches: [Cost; Touch::ALL.len()],
    /// What its blocks of the size of a huge page come to.
    pub blocks: Blocks,
    /// In which order its pages fault.
    pub steps: Steps,
    /// Reads and instruction fetches of a file's pages: what fault-around works on.
    pub file_reads: Cost,
    /// Time of the first and of the last major fault since the first fault of the trace, in nanoseconds.
    pub major_span_ns: Option<(u64, u64)>,
    /// Writes to private pages of files that come from the dynamic loader's code.
    pub relocations: Cost,
}

impl Region {
    /// What faults of that sort cost.
    pub fn touched(&self, touch: Touch) -> Cost {
        self.touches[touch as usize]
    }
}

/// A program, in all processes that run it.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// Its path, if it is known.
    pub path: Option<Name>,
    /// Its faults.
    pub counts: Counts,
    /// How often it was executed: address spaces that an `exec` began.
    pub execs: u64,
    /// The fewest faults of such an address space: what starting it costs at least. 0 without one.
    pub least_faults: u64,
    /// Over time: anonymous pages touched first, and filled again.
    pub growth: Series<2>,
    /// Faults in code that is executed, over time.
    pub code: Series<1>,
    /// How many they are.
    pub code_faults: u64,
    /// And how many came in the second half of the trace's time.
    pub late_code_faults: u64,
    /// The part (0 to 1) of first touches that came in the second half of the trace's time.
    pub late_part: Option<f64>,
    /// Its children that executed a program.
    pub forks_to_exec: u64,
    /// Faults of its children between `fork` and `exec`, where an `exec` came.
    pub before_exec: Cost,
    /// Of them, copies.
    pub copies_before_exec: Cost,
    /// Copies in children that executed nothing.
    pub copies_in_children: Cost,
    /// Copies in the process itself, of pages that it shared with children.
    pub copies_in_parent: Cost,
}

/// The mappings of all programs.
#[derive(Debug, Default)]
pub struct Regions {
    names: Names,
    /// By program and mapping.
    numbers: FxHashMap<(u32, u32), u32>,
    regions: Vec<Region>,
    states: PageStates,
    walks: Walks,
    /// By number of the name; the last is of unknown programs.
    programs: FxHashMap<u32, Program>,
    /// By address space.
    spaces: Vec<SpaceCost>,
    last_ns: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct SpaceCost {
    all: Cost,
    copies: Cost,
}

/// What `Regions` has found.
#[derive(Clone, Debug, Default)]
pub struct RegionsFound {
    /// Mappings of programs, those with most faults first.
    pub regions: Vec<Region>,
    /// Programs, those with most faults first.
    pub programs: Vec<Program>,
}

const UNKNOWN: u32 = u32::MAX;

impl Regions {
    /// Of a machine with such pages.
    pub fn new(page_size: PageSize) -> Self {
        Self {
            states: PageStates::new(page_size),
            walks: Walks::new(page_size),
            ..Self::default()
        }
    }

    /// Adds a fault of address space `number` at so many nanoseconds since the first one.
    pub fn add(&mut self, fault: &ResolvedFault, number: u32, space: &Space, time_ns: u64) {
        let program = match &fault.program {
            Some(program) => self.names.number(program),
            None => UNKNOWN,
        };
        let mapping = match &fault.place {
            Some(place) => self.names.number(&place.name),
            None => UNKNOWN,
        };
        let index = *self.numbers.entry((program, mapping)).or_insert_with(|| {
            let index = self.regions.len() as u32;
            self.regions.push(Region {
                program: fault.program.clone(),
                mapping: fault.place.as_ref().map(|place| Name::clone(&place.name)),
                ..Region::default()
            });
            index
        });
        let region = &mut self.regions[index as usize];
        region.counts.add(fault);
        region.is_file |= fault
            .place
            .as_ref()
            .is_some_and(|place| place.file_offset.is_some());
        let place = Where {
            space: number,
            origin: space.origin,
            mapping: match &fault.place {
                // A file's mappings of different rights are different ones.
                Some(place) => mapping << 4 | rights(&place.permissions),
                None => UNKNOWN,
            },
            region: index,
        };
        let (touch, is_new) = self.states.fault(fault, place);
        region.pages += u64::from(is_new);
        region.touches[touch as usize].add(fault);
        if touch == Touch::First {
            region.growth.add(time_ns, 0);
            if fault.fault.flags & fault_flag::USER as u16 == 0 {
                region.kernel_first.add(fault);
            }
        }
        if let Some(step) = self.walks.step(fault, number, mapping) {
            region.steps.add(step);
        }
        if matches!(fault.kind, Kind::FileRead | Kind::FileExecute) && fault.fate != Fate::Failed {
            region.file_reads.add(fault);
        }
        if touch == Touch::FileCopy && is_by_loader(fault) {
            region.relocations.add(fault);
        }
        if fault.fate == Fate::Major {
            let span = region.major_span_ns.get_or_insert((time_ns, time_ns));
            *span = (span.0.min(time_ns), span.1.max(time_ns));
        }
        let program = self.programs.entry(program).or_insert_with(|| Program {
            path: fault.program.clone(),
            ..Program::default()
        });
        program.counts.add(fault);
        if fault.kind == Kind::FileExecute {
            program.code.add(time_ns, 0);
        }
        match touch {
            Touch::First => program.growth.add(time_ns, 0),
            Touch::Again => program.growth.add(time_ns, 1),
            Touch::ForkParent => program.copies_in_parent.add(fault),
            _ => {}
        }
        let index = number as usize;
        if self.spaces.len() <= index {
            self.spaces.resize(index + 1, SpaceCost::default());
        }
        let cost = &mut self.spaces[index];
        cost.all.add(fault);
        if matches!(touch, Touch::ForkChild) {
            cost.copies.add(fault);
        }
        self.last_ns = self.last_ns.max(time_ns);
    }

    /// Gives up what is kept of the pages of an address space that has ended.
    pub fn forget(&mut self, space: u32) {
        let regions = &mut self.regions;
        self.states.forget(space, |region, blocks| {
            regions[region as usize].blocks.merge(blocks);
        });
        self.walks.forget(space);
    }

    /// What there is until now.
    pub fn found(&self, spaces: &Spaces) -> RegionsFound {
        let mut regions = self.regions.clone();
        self.states.sum(|region, blocks| {
            regions[region as usize].blocks.merge(blocks);
        });
        let mut programs = self.programs.clone();
        for (space, cost) in spaces.all().iter().zip(&self.spaces) {
            let path = space.program.as_ref();
            let number = path.and_then(|path| self.names.find(path));
            let Some(program) = programs.get_mut(&number.unwrap_or(UNKNOWN)) else {
                continue;
            };
            match (space.origin, space.replaced) {
                (Origin::Exec, _) => {
                    program.least_faults = match program.execs {
                        0 => cost.all.faults,
                        _ => program.least_faults.min(cost.all.faults),
                    };
                    program.execs += 1;
                }
                (Origin::Fork, true) => {
                    program.forks_to_exec += 1;
                    program.before_exec.merge(&cost.all);
                    program.copies_before_exec.merge(&cost.copies);
                }
                (Origin::Fork, false) => program.copies_in_children.merge(&cost.copies),
                (Origin::Before, _) => {}
            }
        }
        // Of all of the trace's time: a program that ended early did not grow late.
        let half_ns = self.last_ns / 2;
        for program in programs.values_mut() {
            let (all, late) = program.growth.since(half_ns, 0);
            program.late_part = (all != 0).then(|| late as f64 / all as f64);
            (program.code_faults, program.late_code_faults) = program.code.since(half_ns, 0);
        }
        for region in &mut regions {
            region.late_touches = region.growth.since(half_ns, 0).1;
        }
        regions.sort_by(|one, other| {
            let by = |region: &Region| std::cmp::Reverse(region.counts.faults);
            (by(one), &one.program, &one.mapping).cmp(&(by(other), &other.program, &other.mapping))
        });
        let mut programs: Vec<_> = programs.into_values().collect();
        programs.sort_by(|one, other| {
            let by = |program: &Program| std::cmp::Reverse(program.counts.faults);
            (by(one), &one.path).cmp(&(by(other), &other.path))
        });
        RegionsFound { regions, programs }
    }
}

/// A number below 16 for the rights of a mapping.
fn rights(permissions: &str) -> u32 {
    let is = |letter| u32::from(permissions.contains(letter));
    is('r') | is('w') << 1 | is('x') << 2 | is('s') << 3
}

/// Whether the dynamic loader's code made it.
fn is_by_loader(fault: &ResolvedFault) -> bool {
    fault.code.as_ref().is_some_and(|code| {
        let file = code.object.name.rsplit('/').next().unwrap_or("");
        file.starts_with("ld-linux") || file.starts_with("ld-musl") || file.starts_with("ld.so")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{event, fault, Builder};
    use fault_tracer_trace::{Row, ThreadEvent};

    fn found(rows: impl IntoIterator<Item = Row>) -> RegionsFound {
        let mut spaces = Spaces::default();
        let mut regions = Regions::default();
        for row in rows {
            if let Some(space) = spaces.add(&row) {
                regions.forget(space);
            }
            if let Row::Fault(fault) = &row {
                let number = spaces.of(fault);
                let time_ns = fault.fault.time_ns;
                regions.add(fault, number, spaces.space(number), time_ns);
            }
        }
        regions.found(&spaces)
    }

    #[test]
    fn regions_are_of_a_program_and_a_mapping() {
        let faults = [
            fault().program("/bin/a").page(1).took(10),
            fault().program("/bin/a").page(1).took(30),
            fault().program("/bin/a").page(2),
            fault().program("/bin/a").mapping("[heap]"),
            fault().program("/bin/b").pid(2).fate(Fate::Major).time(7),
        ];
        let RegionsFound { regions, programs } = found(faults.map(Builder::row));
        let names: Vec<_> = regions
            .iter()
            .map(|region| {
                (
                    region.program.as_deref().unwrap(),
                    region.mapping.as_deref().unwrap(),
                    region.counts.faults,
                    region.pages,
                )
            })
            .collect();
        assert_eq!(
            names,
            [
                ("/bin/a", "[anon]", 3, 2),
                ("/bin/a", "[heap]", 1, 1),
                ("/bin/b", "[anon]", 1, 1)
            ]
        );
        let again = regions[0].touched(Touch::Again);
        assert_eq!((again.faults, again.time_ns), (1, 30));
        assert_eq!(regions[2].major_span_ns, Some((7, 7)));
        let faults: Vec<_> = programs.iter().map(|of| of.counts.faults).collect();
        assert_eq!(faults, [4, 1]);
        assert_eq!(programs[0].growth.steps(), [[3, 1]]);
    }

    #[test]
    fn what_forks_and_execs_cost() {
        let shell = |pid| fault().pid(pid).program("/bin/sh");
        let copy = |pid, page| shell(pid).kind(Kind::CopyOnWrite).page(page);
        let tool = |pid, page| fault().pid(pid).program("/bin/tool").page(page);
        let rows = [
            shell(1).page(9).row(),
            // A child that executes a program.
            event(ThreadEvent::Fork, 2, 2),
            copy(2, 1).row(),
            copy(2, 2).took(5).row(),
            shell(2).page(3).row(),
            event(ThreadEvent::Exec, 2, 2),
            tool(2, 1).row(),
            tool(2, 2).row(),
            // And another one.
            event(ThreadEvent::Fork, 3, 3),
            event(ThreadEvent::Exec, 3, 3),
            tool(3, 1).row(),
            // One that does not.
            event(ThreadEvent::Fork, 4, 4),
            copy(4, 1).row(),
            // The parent writes what it shares.
            copy(1, 9).row(),
        ];
        let programs = found(rows).programs;
        let of = |path: &str| {
            programs
                .iter()
                .find(|program| program.path.as_deref() == Some(path))
                .unwrap()
        };
        let shell = of("/bin/sh");
        assert_eq!(shell.before_exec.faults, 3);
        let copies = shell.copies_before_exec;
        assert_eq!((copies.faults, copies.time_ns), (2, 5));
        assert_eq!(shell.copies_in_children.faults, 1);
        assert_eq!(shell.copies_in_parent.faults, 1);
        assert_eq!(shell.execs, 0);
        assert_eq!(
            (of("/bin/tool").execs, of("/bin/tool").least_faults),
            (2, 1)
        );
    }

    #[test]
    fn what_is_forgotten_stays_counted() {
        let mut rows = Vec::new();
        for pid in 1..600 {
            for page in 0..512 {
                rows.push(fault().pid(pid).program("/bin/a").page(page).row());
            }
            rows.push(event(ThreadEvent::Exit, pid, pid));
        }
        let region = &found(rows).regions[0];
        assert_eq!(region.blocks.huge_saving, 599 * 511);
        assert_eq!(region.pages, 599 * 512);
    }

    #[test]
    fn late_growth_is_of_the_whole_time() {
        let second = 1_000_000_000;
        let rows = (0..100).flat_map(|n| {
            let leak = fault().program("/bin/leak").page(n).time(n * second);
            let early = fault().program("/bin/early").pid(2).page(n).time(n);
            [leak.row(), early.row()]
        });
        let programs = found(rows).programs;
        let late = |path: &str| {
            let found = programs.iter().find(|of| of.path.as_deref() == Some(path));
            found.unwrap().late_part.unwrap()
        };
        assert!((0.4..=0.6).contains(&late("/bin/leak")));
        assert_eq!(late("/bin/early"), 0.0);
    }

    #[test]
    fn the_loader_is_known_by_its_file() {
        let copy = || fault().kind(Kind::FileCopy).mapping("/lib/libx.so");
        let loader = "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2";
        let regions = found([
            copy().code(loader, 1).row(),
            copy().page(1).code("/bin/a", 1).row(),
        ])
        .regions;
        assert_eq!(regions[0].relocations.faults, 1);
        assert_eq!(regions[0].touched(Touch::FileCopy).faults, 2);
    }
}
