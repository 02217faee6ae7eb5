// SPDX-License-Identifier: GPL-2.0-only

//! In which order the pages of a mapping fault: one after the other, in strides, at random.

use fault_tracer_trace::{Kind, PageSize, ResolvedFault};
use rustc_hash::FxHashMap;

/// Strides of a mapping that are counted apart: the most frequent are kept (Misra and Gries).
const STRIDES: usize = 4;

/// A step forward of up to so many bytes is to the next page where fault-around maps pages besides the one that faults: what
/// the kernel maps by default.
const AROUND_BYTES: i64 = 64 << 10;

/// The part of the steps that makes a pattern.
const PATTERN_PART: f64 = 0.6;

/// From one fault of a thread in a mapping to its next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// To the next page, upwards.
    Next,
    /// To the page before, downwards.
    Back,
    /// To the same page.
    Same,
    /// As far as the step before, in pages.
    Stride(i64),
    /// Anywhere.
    Jump,
}

/// The steps of a mapping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    next: u64,
    back: u64,
    same: u64,
    strided: u64,
    jumps: u64,
    strides: Vec<(i64, u64)>,
}

/// How a mapping is walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Too few faults for one.
    Few,
    /// Upwards, page by page.
    Sequential,
    /// Downwards, page by page.
    Backward,
    /// In equal strides of so many pages.
    Strided(i64),
    /// Over the same pages.
    Same,
    /// In no order.
    Random,
    /// In parts one, in parts another.
    Mixed,
}

impl Pattern {
    /// Its name in files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Few => "few",
            Self::Sequential => "sequential",
            Self::Backward => "backward",
            Self::Strided(_) => "strided",
            Self::Same => "same-page",
            Self::Random => "random",
            Self::Mixed => "mixed",
        }
    }
}

impl Steps {
    /// Adds a step.
    pub fn add(&mut self, step: Step) {
        match step {
            Step::Next => self.next += 1,
            Step::Back => self.back += 1,
            Step::Same => self.same += 1,
            Step::Jump => self.jumps += 1,
            Step::Stride(pages) => {
                self.strided += 1;
                if let Some(known) = self.strides.iter_mut().find(|known| known.0 == pages) {
                    known.1 += 1;
                } else if self.strides.len() < STRIDES {
                    self.strides.push((pages, 1));
                } else {
                    for known in &mut self.strides {
                        known.1 -= 1;
                    }
                    self.strides.retain(|known| known.1 != 0);
                }
            }
        }
    }

    /// How the mapping is walked.
    pub fn pattern(&self) -> Pattern {
        let all = self.next + self.back + self.same + self.strided + self.jumps;
        if all < 16 {
            return Pattern::Few;
        }
        let most = |count: u64| count as f64 >= all as f64 * PATTERN_PART;
        if most(self.next) {
            Pattern::Sequential
        } else if most(self.back) {
            Pattern::Backward
        } else if most(self.same) {
            Pattern::Same
        } else if most(self.strided) {
            let stride = self.strides.iter().max_by_key(|known| known.1);
            match stride {
                Some((pages, count)) if *count as f64 >= self.strided as f64 / 2.0 => {
                    Pattern::Strided(*pages)
                }
                _ => Pattern::Mixed,
            }
        } else if most(self.jumps) {
            Pattern::Random
        } else {
            Pattern::Mixed
        }
    }
}

/// Where the threads are in their mappings.
#[derive(Debug, Default)]
pub struct Walks {
    page_size: PageSize,
    /// By address space, then thread and mapping.
    spaces: FxHashMap<u32, FxHashMap<(u32, u32), Walk>>,
}

#[derive(Clone, Copy, Debug)]
struct Walk {
    page: u64,
    delta: i64,
}

impl Walks {
    /// Of a machine with such pages.
    pub fn new(page_size: PageSize) -> Self {
        Self {
            page_size,
            ..Self::default()
        }
    }

    /// The step to a fault; `None` for the first of its thread in the mapping.
    pub fn step(&mut self, fault: &ResolvedFault, space: u32, mapping: u32) -> Option<Step> {
        let page = self.page_size.page_of(fault.fault.address);
        let walks = self.spaces.entry(space).or_default();
        let walk = match walks.entry((fault.fault.tid, mapping)) {
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(Walk { page, delta: 0 });
                return None;
            }
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
        };
        // Addresses have at most 57 bits.
        let delta = page as i64 - walk.page as i64;
        let before = std::mem::replace(walk, Walk { page, delta }).delta;
        let around = matches!(fault.kind, Kind::FileRead | Kind::FileExecute);
        Some(match delta {
            0 => Step::Same,
            1 => Step::Next,
            -1 => Step::Back,
            _ if around && (1..=AROUND_BYTES >> self.page_size.shift()).contains(&delta) => {
                Step::Next
            }
            _ if delta == before => Step::Stride(delta),
            _ => Step::Jump,
        })
    }

    /// Gives up an address space.
    pub fn forget(&mut self, space: u32) {
        self.spaces.remove(&space);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{fault, kib};

    fn pattern(kind: Kind, pages: impl IntoIterator<Item = u64>) -> Pattern {
        pattern_of(PageSize::default(), kind, pages)
    }

    fn pattern_of(
        page_size: PageSize,
        kind: Kind,
        pages: impl IntoIterator<Item = u64>,
    ) -> Pattern {
        let mut walks = Walks::new(page_size);
        let mut steps = Steps::default();
        for page in pages {
            let fault = fault()
                .kind(kind)
                .address(page << page_size.shift())
                .build();
            if let Some(step) = walks.step(&fault, 0, 0) {
                steps.add(step);
            }
        }
        steps.pattern()
    }

    #[test]
    fn walks_by_construction() {
        let anonymous = |pages: Vec<u64>| pattern(Kind::ZeroFill, pages);
        assert_eq!(anonymous((0..100).collect()), Pattern::Sequential);
        assert_eq!(anonymous((0..100).rev().collect()), Pattern::Backward);
        assert_eq!(
            anonymous((0..100).map(|n| n * 7).collect()),
            Pattern::Strided(7)
        );
        assert_eq!(
            anonymous((0..100).rev().map(|n| n * 3).collect()),
            Pattern::Strided(-3)
        );
        assert_eq!(anonymous(vec![5; 100]), Pattern::Same);
        let random = (0..100).map(|n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40);
        assert_eq!(anonymous(random.collect()), Pattern::Random);
        assert_eq!(anonymous((0..10).collect()), Pattern::Few);
        let halves = (0..50).chain((0..50).map(|n| 1000 + n * n));
        assert_eq!(anonymous(halves.collect()), Pattern::Mixed);
    }

    #[test]
    fn fault_around_steps_over_pages() {
        let pages = || (0..100).map(|n| n * 16);
        assert_eq!(pattern(Kind::FileRead, pages()), Pattern::Sequential);
        assert_eq!(pattern(Kind::ZeroFill, pages()), Pattern::Strided(16));
    }

    #[test]
    fn steps_are_pages_of_the_traced_machine() {
        for (size, around) in [(4, 16), (16, 4), (64, 1)] {
            let of = |kind, step: u64| pattern_of(kib(size), kind, (0..100).map(|n| n * step));
            assert_eq!(of(Kind::ZeroFill, 1), Pattern::Sequential);
            assert_eq!(of(Kind::ZeroFill, 7), Pattern::Strided(7));
            // 64 KiB, which fault-around maps.
            assert_eq!(of(Kind::FileRead, around), Pattern::Sequential);
            let beyond = Pattern::Strided(around as i64 + 1);
            assert_eq!(of(Kind::FileRead, around + 1), beyond, "{size} KiB");
        }
    }

    #[test]
    fn threads_walk_apart() {
        let mut walks = Walks::default();
        let mut steps = Steps::default();
        for page in 0..50 {
            for tid in [1, 2] {
                let fault = fault().tid(tid).page(u64::from(tid) * 1000 + page).build();
                steps.add(walks.step(&fault, 0, 0).unwrap_or(Step::Next));
            }
        }
        assert_eq!(steps.pattern(), Pattern::Sequential);
    }

    #[test]
    fn the_most_frequent_stride_is_found() {
        let mut steps = Steps::default();
        for n in 0..300 {
            steps.add(Step::Stride(if n % 3 == 0 { n } else { 9 }));
        }
        assert_eq!(steps.pattern(), Pattern::Strided(9));
    }
}
