// SPDX-License-Identifier: GPL-2.0-only

//! Which panel a region belongs to.

use std::collections::HashSet;

use fault_tracer_trace::{Name, ThreadEvent, ANONYMOUS};
use rustc_hash::FxHashMap;

use crate::input::{Area, Input, Region, NONE};

/// Files that get a panel each, and programs that get two: the others share one.
const FILES_MOST: usize = 12;
const PROGRAMS_MOST: usize = 4;
const NAMED_MOST: usize = 6;

/// What a panel shows, in the order from the top of the picture to its bottom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    /// Addresses of the kernel's half.
    Kernel,
    /// The stack of the first thread.
    MainStack,
    /// `[vdso]` and what else the kernel maps.
    Special,
    /// No mapping is known, near the top: also what exec writes there.
    UnknownStack,
    /// Stacks of other threads, where the mapping's name tells so.
    ThreadStacks,
    /// Anonymous memory without a name.
    Anonymous,
    /// Mappings that have a name and no place in a file.
    Named(u32),
    /// Of those, the ones with few faults.
    OtherNamed,
    /// No mapping is known, in the middle.
    Unknown,
    /// A file that is no program: a library, data.
    File(u32),
    /// Of those, the ones with few faults.
    OtherFiles,
    /// The heap that `brk` moves.
    Heap,
    /// Anonymous memory beside a program: what its file has no bytes for.
    Bss,
    /// A program's writable mappings.
    ProgramData(u32),
    /// A program's other mappings.
    ProgramText(u32),
    /// Programs with few faults.
    OtherPrograms,
    /// No mapping is known, beside programs.
    UnknownProgram,
}

impl Group {
    /// Whether the y axis is the offset in files.
    pub const fn is_file(self) -> bool {
        matches!(
            self,
            Self::File(_)
                | Self::OtherFiles
                | Self::ProgramData(_)
                | Self::ProgramText(_)
                | Self::OtherPrograms
        )
    }

    /// Whether it grows down: several address spaces are then aligned at their highest page.
    pub const fn grows_down(self) -> bool {
        !matches!(self, Self::Heap | Self::Bss | Self::UnknownProgram)
    }

    /// What the panel is called.
    pub fn label(self, names: &[Name]) -> String {
        let name = |index: u32| short_name(&names[index as usize]);
        match self {
            Self::Kernel => "kernel half".into(),
            Self::MainStack => "main stack".into(),
            Self::Special => "vdso, vvar".into(),
            Self::UnknownStack => "unknown, near stack".into(),
            Self::ThreadStacks => "thread stacks".into(),
            Self::Anonymous => "anonymous".into(),
            Self::Named(index) | Self::File(index) => name(index),
            Self::OtherNamed => "other named".into(),
            Self::Unknown => "unknown mapping".into(),
            Self::OtherFiles => "other files".into(),
            Self::Heap => "heap".into(),
            Self::Bss => "bss".into(),
            Self::ProgramData(index) => format!("{} data", name(index)),
            Self::ProgramText(index) => format!("{} text", name(index)),
            Self::OtherPrograms => "other programs".into(),
            Self::UnknownProgram => "unknown, near program".into(),
        }
    }
}

/// The last part of a path, also of one that was deleted.
pub fn short_name(name: &str) -> String {
    if !name.starts_with('/') {
        return name.to_owned();
    }
    let (path, rest) = match name.strip_suffix(" (deleted)") {
        Some(path) => (path, " (deleted)"),
        None => (name, ""),
    };
    let last = path.rsplit('/').next().unwrap_or(path);
    format!("{last}{rest}")
}

/// The group of each region.
pub fn groups(input: &Input) -> Vec<Group> {
    let mut faults = vec![0u64; input.regions.len()];
    for &region in &input.region {
        faults[region as usize] += 1;
    }
    let programs: HashSet<u32> = input
        .events
        .iter()
        .filter(|event| event.what == ThreadEvent::Exec && event.name != NONE)
        .map(|event| event.name)
        .collect();
    // A file is a program wherever it is one: ld.so runs some, and maps its data elsewhere.
    let mut is_program = programs;
    for region in &input.regions {
        if region.base.is_some() && matches!(region.area, Area::Low | Area::Program) {
            is_program.insert(region.mapping);
        }
    }
    let mut groups: Vec<Group> = input
        .regions
        .iter()
        .map(|region| group(region, &input.names, &is_program))
        .collect();
    keep(&mut groups, &faults, FILES_MOST, |group| match group {
        Group::File(name) => Some((name, Group::OtherFiles)),
        _ => None,
    });
    keep(&mut groups, &faults, PROGRAMS_MOST, |group| match group {
        Group::ProgramData(name) | Group::ProgramText(name) => Some((name, Group::OtherPrograms)),
        _ => None,
    });
    keep(&mut groups, &faults, NAMED_MOST, |group| match group {
        Group::Named(name) => Some((name, Group::OtherNamed)),
        _ => None,
    });
    groups
}

/// Of groups by name, leaves those with the most faults, and puts the others into one. One alone stays.
fn keep(
    groups: &mut [Group],
    faults: &[u64],
    most: usize,
    named: impl Fn(Group) -> Option<(u32, Group)>,
) {
    let mut sums: FxHashMap<u32, u64> = FxHashMap::default();
    for (&group, &faults) in groups.iter().zip(faults) {
        if let Some((name, _)) = named(group) {
            *sums.entry(name).or_insert(0) += faults;
        }
    }
    if sums.len() <= most + 1 {
        return;
    }
    let mut order: Vec<(u32, u64)> = sums.into_iter().collect();
    order.sort_by_key(|&(name, faults)| (std::cmp::Reverse(faults), name));
    let kept: HashSet<u32> = order[..most].iter().map(|&(name, _)| name).collect();
    for group in groups {
        if let Some((name, other)) = named(*group) {
            if !kept.contains(&name) {
                *group = other;
            }
        }
    }
}

fn group(region: &Region, names: &[Name], is_program: &HashSet<u32>) -> Group {
    if region.area == Area::Kernel {
        return Group::Kernel;
    }
    if region.mapping == NONE {
        return match region.area {
            Area::Low | Area::Program => Group::UnknownProgram,
            Area::Stack => Group::UnknownStack,
            Area::Mapped | Area::Kernel => Group::Unknown,
        };
    }
    let name = &*names[region.mapping as usize];
    match name {
        "[heap]" => Group::Heap,
        "[stack]" => Group::MainStack,
        "[vdso]" | "[vvar]" | "[vvar_vclock]" | "[vsyscall]" | "[uprobes]" => Group::Special,
        ANONYMOUS if matches!(region.area, Area::Low | Area::Program) => Group::Bss,
        ANONYMOUS => Group::Anonymous,
        _ if is_stack(name) => Group::ThreadStacks,
        _ if region.base.is_none() => Group::Named(region.mapping),
        _ if !is_program.contains(&region.mapping) => Group::File(region.mapping),
        _ if region.writable => Group::ProgramData(region.mapping),
        _ => Group::ProgramText(region.mapping),
    }
}

/// Whether a mapping's name says that it is a thread's stack: the kernel's until 4.5, glibc's, bionic's.
fn is_stack(name: &str) -> bool {
    name.starts_with("[stack:")
        || name.starts_with("[anon:stack_and_tls")
        || (name.starts_with("[anon: glibc: pthread") && name.contains("stack"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_to_their_last_part() {
        assert_eq!(short_name("/usr/lib/libc.so.6"), "libc.so.6");
        assert_eq!(short_name("/tmp/a b (deleted)"), "a b (deleted)");
        assert_eq!(short_name("[anon: x/y]"), "[anon: x/y]");
        assert_eq!(short_name("/"), "");
    }

    #[test]
    fn thread_stacks_are_told_by_their_names() {
        for name in ["[stack:17]", "[anon: glibc: pthread stack: 9]"] {
            assert!(is_stack(name));
        }
        assert!(!is_stack("[anon: glibc: malloc arena]"));
    }
}
