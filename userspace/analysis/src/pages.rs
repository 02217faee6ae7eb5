// SPDX-License-Identifier: GPL-2.0-only

//! What a fault is to its page: the first, another after the page was given back, a copy after a fork.
//!
//! Pages are kept by address space and mapping. The trace has no row of `munmap` or `madvise`; that a page was given
//! back shows when it is filled again. Two threads that meet at a page at once both fault, and the second looks
//! like a page filled again.

use fault_tracer_trace::{Fate, Kind, PageSize, ResolvedFault};
use rustc_hash::FxHashMap;

use crate::{
    bits::{block_runs, run_and_page, Pages, Run},
    spaces::Origin,
};

/// What a fault is to its page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Touch {
    /// Anonymous memory that this address space had not touched before.
    First,
    /// Anonymous memory that was touched and given back before: it is filled with zeros again.
    Again,
    /// The write that replaces the shared page of zeros, which a read had mapped.
    ReadThenWrite,
    /// A write in a child, to a page that it shares with its parent since the fork.
    ForkChild,
    /// A write to a page that this address space had written before and shares with a child since.
    ForkParent,
    /// A write to a page of a private file: it gets a copy (relocations, initialised data).
    FileCopy,
    /// A file's page, for the first time here.
    FileFirst,
    /// A file's page that was mapped here before and has been unmapped or reclaimed.
    FileAgain,
    /// A page that was swapped out.
    SwapIn,
    /// The first write to a clean shared page.
    Dirty,
    /// A write to a shared page that was written before and has been cleaned (written back) since.
    DirtyAgain,
    /// Anything else: shared memory, huge pages of hugetlbfs, spurious faults, failed ones.
    Other,
}

impl Touch {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::First,
        Self::Again,
        Self::ReadThenWrite,
        Self::ForkChild,
        Self::ForkParent,
        Self::FileCopy,
        Self::FileFirst,
        Self::FileAgain,
        Self::SwapIn,
        Self::Dirty,
        Self::DirtyAgain,
        Self::Other,
    ];

    /// Its name in files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Again => "again",
            Self::ReadThenWrite => "read-then-write",
            Self::ForkChild => "fork-child",
            Self::ForkParent => "fork-parent",
            Self::FileCopy => "file-copy",
            Self::FileFirst => "file-first",
            Self::FileAgain => "file-again",
            Self::SwapIn => "swap-in",
            Self::Dirty => "dirty",
            Self::DirtyAgain => "dirty-again",
            Self::Other => "other",
        }
    }
}

/// Sizes of fault-around windows that are estimated, in bytes: 64 KiB (the kernel's default, whatever its pages are) to 2 MiB.
pub const WINDOW_BYTES: [u64; 6] = [64 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20, 2 << 20];

/// What the pages of a region come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blocks {
    /// Aligned blocks of the size of a transparent huge page ([`PageSize::huge_bytes`]) that lie within touched memory of one mapping, as far as the faults show.
    pub huge_blocks: u64,
    /// Faults that huge pages in these blocks would save: all zero-fills of each, but one for each time that all its
    /// pages were filled.
    pub huge_saving: u64,
    /// Pages of these blocks that were not touched: what huge pages would cost in memory.
    pub huge_cost_pages: u64,
    /// Such blocks with one filled page each, of which a neighbour is such a block, too: what huge pages look like.
    pub lone_blocks: u64,
    /// File pages that were read or executed.
    pub file_pages: u64,
    /// Windows of these pages, by [`WINDOW_BYTES`].
    pub windows: [u64; WINDOW_BYTES.len()],
}

impl Blocks {
    /// Adds those of others.
    pub fn merge(&mut self, other: &Self) {
        self.huge_blocks += other.huge_blocks;
        self.huge_saving += other.huge_saving;
        self.huge_cost_pages += other.huge_cost_pages;
        self.lone_blocks += other.lone_blocks;
        self.file_pages += other.file_pages;
        for (sum, count) in self.windows.iter_mut().zip(other.windows) {
            *sum += count;
        }
    }
}

/// What is known of the pages of a run.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// For the caller, of the first fault.
    region: u32,
    /// Zero-fills, those of pages that were given back included.
    fills: u32,
    /// Any completed fault.
    any: Run,
    /// Zero-filled once or more.
    born: Run,
    /// Has a page of its own.
    filled: Run,
    /// Has the shared page of zeros.
    zero: Run,
    /// Read or executed from a file once or more.
    file: Run,
    /// Written while it was a clean shared page, once or more.
    dirty: Run,
    /// Mapped by a write, once or more.
    written: Run,
}

/// The runs of an address space, by mapping and number.
type Runs = FxHashMap<(u32, u64), Known>;

/// The pages of all address spaces.
#[derive(Debug, Default)]
pub struct PageStates {
    page_size: PageSize,
    spaces: FxHashMap<u32, Runs>,
}

/// Where a fault is counted.
#[derive(Clone, Copy, Debug)]
pub struct Where {
    /// Its address space.
    pub space: u32,
    /// How that came to be.
    pub origin: Origin,
    /// A number for its mapping.
    pub mapping: u32,
    /// A number for what its block is counted to, see [`PageStates::forget`].
    pub region: u32,
}

impl PageStates {
    /// Of a machine with such pages.
    pub fn new(page_size: PageSize) -> Self {
        Self {
            page_size,
            ..Self::default()
        }
    }

    /// Takes a fault; says what it is to its page, and whether it is the first that completed there.
    pub fn fault(&mut self, fault: &ResolvedFault, place: Where) -> (Touch, bool) {
        if fault.fate == Fate::Failed {
            return (Touch::Other, false);
        }
        let (number, page) = run_and_page(fault.fault.address, self.page_size);
        let runs = self.spaces.entry(place.space).or_default();
        let known = runs
            .entry((place.mapping, number))
            .or_insert_with(|| Known {
                region: place.region,
                ..Known::default()
            });
        let is_file = fault
            .place
            .as_ref()
            .is_some_and(|place| place.file_offset.is_some());
        let is_new = known.any.insert(page);
        let touch = known.touch(page, fault.kind, is_file, place.origin);
        // The first fault of a page is no first write if a write next to it had mapped it.
        if touch == Touch::Dirty
            && fault.kind == Kind::WriteNotify
            && place.origin == Origin::Exec
            && is_written_beside(runs, place.mapping, number, block_runs(self.page_size))
        {
            return (Touch::DirtyAgain, is_new);
        }
        (touch, is_new)
    }

    /// Gives up an address space, and calls `count` with what its blocks come to, by region.
    pub fn forget(&mut self, space: u32, count: impl FnMut(u32, &Blocks)) {
        if let Some(runs) = self.spaces.remove(&space) {
            sum(&runs, self.page_size, count);
        }
    }

    /// As [`PageStates::forget`], for all that are left, which stay.
    pub fn sum(&self, mut count: impl FnMut(u32, &Blocks)) {
        for runs in self.spaces.values() {
            sum(runs, self.page_size, &mut count);
        }
    }
}

impl Known {
    fn touch(&mut self, page: u64, kind: Kind, is_file: bool, origin: Origin) -> Touch {
        match kind {
            Kind::ZeroFill | Kind::ZeroPage => {
                let again = self.filled.remove(page) | self.zero.remove(page);
                if kind == Kind::ZeroFill {
                    self.born.insert(page);
                    self.fills = self.fills.saturating_add(1);
                    self.filled.insert(page);
                } else {
                    self.zero.insert(page);
                }
                if again {
                    Touch::Again
                } else {
                    Touch::First
                }
            }
            Kind::CopyOnWrite => {
                let was_filled = !self.filled.insert(page);
                if self.zero.remove(page) {
                    Touch::ReadThenWrite
                } else if was_filled {
                    Touch::ForkParent
                } else if self.file.has(page) {
                    Touch::FileCopy
                } else if origin == Origin::Fork {
                    Touch::ForkChild
                } else if is_file {
                    // Fault-around had mapped it.
                    Touch::FileCopy
                } else {
                    Touch::Other
                }
            }
            Kind::FileCopy => {
                self.filled.insert(page);
                Touch::FileCopy
            }
            Kind::FileRead | Kind::FileExecute => {
                let was_filled = self.filled.remove(page);
                if !self.file.insert(page) || was_filled {
                    Touch::FileAgain
                } else {
                    Touch::FileFirst
                }
            }
            Kind::FileWrite | Kind::WriteNotify => {
                if kind == Kind::FileWrite {
                    self.written.insert(page);
                }
                if self.dirty.insert(page) {
                    Touch::Dirty
                } else {
                    Touch::DirtyAgain
                }
            }
            Kind::SwapIn => {
                self.filled.insert(page);
                Touch::SwapIn
            }
            Kind::Hugetlb
            | Kind::Guard
            | Kind::Poisoned
            | Kind::Migration
            | Kind::DevicePrivate
            | Kind::DeviceExclusive
            | Kind::NumaHint
            | Kind::Protected
            | Kind::UffdReadWrite
            | Kind::UffdWrite
            | Kind::UffdMissing
            | Kind::UffdMinor
            | Kind::Changing
            | Kind::Spurious
            | Kind::Special
            | Kind::SharedMemory => Touch::Other,
        }
    }
}

/// Whether a page that is mapped without a fault of its own was mapped by a write: the kernel maps all pages of a folio, of
/// up to a block, that a write reaches (`finish_fault` of `mm/memory.c`). Only where no page of the block was read, as reads map
/// pages besides, too.
fn is_written_beside(runs: &Runs, mapping: u32, number: u64, block_runs: u64) -> bool {
    let first = number / block_runs * block_runs;
    let of_block = || (first..first + block_runs).filter_map(|at| runs.get(&(mapping, at)));
    of_block().all(|known| known.file.is_empty())
        && of_block().any(|known| !known.written.is_empty())
}

/// Calls a function with what each block of an address space comes to, and with the region of its first run.
fn sum(runs: &Runs, page_size: PageSize, mut count: impl FnMut(u32, &Blocks)) {
    let block_runs = block_runs(page_size);
    for (&(mapping, number), known) in runs {
        let block = number / block_runs;
        let before = block * block_runs..number;
        if before
            .into_iter()
            .any(|number| runs.contains_key(&(mapping, number)))
        {
            // Its block is counted at the first of its runs.
            continue;
        }
        let of_block: Vec<Option<&Known>> = (block * block_runs..(block + 1) * block_runs)
            .map(|number| runs.get(&(mapping, number)))
            .collect();
        let pages = |of: fn(&Known) -> Run| {
            Pages::of_runs(
                of_block
                    .iter()
                    .map(|known| known.map_or(Run::default(), of)),
            )
        };
        let mut sums = Blocks::default();
        let born = pages(|known| known.born);
        if born.count() == 1 {
            let is_lone = |block: Option<u64>| {
                block.is_some_and(|block| {
                    let runs_of_block = block * block_runs..(block + 1) * block_runs;
                    let known = runs_of_block.filter_map(|number| runs.get(&(mapping, number)));
                    known.map(|known| known.born.count()).sum::<u64>() == 1
                })
            };
            let has_neighbour = is_lone(block.checked_sub(1)) || is_lone(block.checked_add(1));
            sums.lone_blocks = u64::from(has_neighbour);
        }
        if born.count() != 0 {
            // A huge page needs a mapping that reaches over the whole block. The trace does not say how far a
            // mapping reaches: faults at the block's ends, or beyond them, do.
            let beyond = |block: Option<u64>| {
                block.is_some_and(|block| {
                    (block * block_runs..(block + 1) * block_runs).any(|number| {
                        let known = runs.get(&(mapping, number));
                        known.is_some_and(|known| !known.born.is_empty())
                    })
                })
            };
            let reaches = (born.has_first() || beyond(block.checked_sub(1)))
                && (born.has_last() || beyond(block.checked_add(1)));
            if reaches {
                let fills: u64 = of_block
                    .iter()
                    .flatten()
                    .map(|known| u64::from(known.fills))
                    .sum();
                sums.huge_blocks = 1;
                // One fault is left for each time that all its pages were filled.
                sums.huge_saving = fills - fills.div_ceil(born.count());
                sums.huge_cost_pages = page_size.of_huge_page() - born.count();
            }
        }
        let file = pages(|known| known.file);
        sums.file_pages = file.count();
        if sums.file_pages != 0 {
            sums.windows = WINDOW_BYTES.map(|bytes| file.windows(bytes >> page_size.shift()));
        }
        count(known.region, &sums);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{fault, kib, Builder};

    const PLACE: Where = Where {
        space: 0,
        origin: Origin::Exec,
        mapping: 0,
        region: 5,
    };

    fn touches(origin: Origin, faults: impl IntoIterator<Item = Builder>) -> Vec<Touch> {
        let mut states = PageStates::default();
        let place = Where { origin, ..PLACE };
        faults
            .into_iter()
            .map(|fault| states.fault(&fault.build(), place).0)
            .collect()
    }

    fn kinds(origin: Origin, kinds: &[Kind]) -> Vec<Touch> {
        touches(origin, kinds.iter().map(|kind| fault().kind(*kind)))
    }

    fn blocks(faults: impl IntoIterator<Item = Builder>) -> Blocks {
        blocks_of(PageSize::default(), faults)
    }

    fn blocks_of(page_size: PageSize, faults: impl IntoIterator<Item = Builder>) -> Blocks {
        let mut states = PageStates::new(page_size);
        for fault in faults {
            states.fault(&fault.build(), PLACE);
        }
        let mut sums = Blocks::default();
        states.sum(|region, blocks| {
            assert_eq!(region, 5);
            sums.merge(blocks);
        });
        let mut forgotten = Blocks::default();
        states.forget(0, |_, blocks| forgotten.merge(blocks));
        assert_eq!(forgotten, sums);
        states.sum(|_, _| panic!("all is forgotten"));
        sums
    }

    #[test]
    fn a_page_that_was_given_back() {
        use Kind::{CopyOnWrite, ZeroFill, ZeroPage};
        assert_eq!(
            kinds(
                Origin::Exec,
                &[ZeroFill, ZeroFill, ZeroPage, CopyOnWrite, ZeroFill]
            ),
            [
                Touch::First,
                Touch::Again,
                Touch::Again,
                Touch::ReadThenWrite,
                Touch::Again
            ]
        );
    }

    #[test]
    fn copies_and_their_causes() {
        use Kind::{CopyOnWrite, FileRead, ZeroFill};
        assert_eq!(kinds(Origin::Fork, &[CopyOnWrite]), [Touch::ForkChild]);
        assert_eq!(
            kinds(Origin::Fork, &[CopyOnWrite, CopyOnWrite]),
            [Touch::ForkChild, Touch::ForkParent]
        );
        assert_eq!(
            kinds(Origin::Exec, &[ZeroFill, CopyOnWrite]),
            [Touch::First, Touch::ForkParent]
        );
        assert_eq!(
            kinds(Origin::Exec, &[FileRead, CopyOnWrite]),
            [Touch::FileFirst, Touch::FileCopy]
        );
        let mapped_around = fault().kind(CopyOnWrite).mapping("/lib/x");
        assert_eq!(touches(Origin::Exec, [mapped_around]), [Touch::FileCopy]);
        assert_eq!(kinds(Origin::Before, &[CopyOnWrite]), [Touch::Other]);
    }

    #[test]
    fn pages_that_a_write_to_another_has_mapped() {
        use Kind::{FileRead, FileWrite, WriteNotify};
        let page = |page: u64, kind| fault().kind(kind).page(page);
        let written = || [page(0, FileWrite), page(300, WriteNotify)];
        assert_eq!(
            touches(Origin::Exec, written()),
            [Touch::Dirty, Touch::DirtyAgain]
        );
        // It may have been mapped before the recording, or for reading.
        assert_eq!(touches(Origin::Before, written()), [Touch::Dirty; 2]);
        let read = [page(20, FileRead)].into_iter().chain(written());
        assert_eq!(
            touches(Origin::Exec, read),
            [Touch::FileFirst, Touch::Dirty, Touch::Dirty]
        );
        // What another write maps is in its own 2 MiB.
        let beyond = [page(0, FileWrite), page(512, WriteNotify)];
        assert_eq!(touches(Origin::Exec, beyond), [Touch::Dirty; 2]);
    }

    #[test]
    fn file_pages_and_dirty_ones() {
        use Kind::{FileExecute, FileRead, FileWrite, SwapIn, WriteNotify};
        assert_eq!(
            kinds(
                Origin::Exec,
                &[FileRead, FileExecute, FileWrite, WriteNotify, SwapIn]
            ),
            [
                Touch::FileFirst,
                Touch::FileAgain,
                Touch::Dirty,
                Touch::DirtyAgain,
                Touch::SwapIn
            ]
        );
    }

    #[test]
    fn a_fault_that_failed_touches_nothing() {
        let failed = || fault().fate(Fate::Failed);
        assert_eq!(
            touches(Origin::Exec, [failed(), fault(), failed(), fault()]),
            [Touch::Other, Touch::First, Touch::Other, Touch::Again]
        );
    }

    #[test]
    fn spaces_and_mappings_are_apart() {
        let mut states = PageStates::default();
        for (space, mapping) in [(0, 0), (1, 0), (0, 1)] {
            let place = Where {
                space,
                mapping,
                ..PLACE
            };
            let fault = fault().build();
            assert_eq!(states.fault(&fault, place), (Touch::First, true));
            assert_eq!(states.fault(&fault, place), (Touch::Again, false));
        }
    }

    #[test]
    fn huge_pages_need_a_whole_block() {
        let pages = |pages: std::ops::Range<u64>| pages.map(|page| fault().page(page));
        // 256 pages of block 0, blocks 1 and 2 whole, 10 of block 3.
        let found = blocks(pages(256..1546));
        assert_eq!(
            (found.huge_blocks, found.huge_saving, found.huge_cost_pages),
            (2, 2 * 511, 0)
        );
        assert_eq!(blocks(pages(100..500)).huge_blocks, 0);
        // Every fourth page of block 1, with faults on both sides.
        let sparse = (500..1100).step_by(4).map(|page| fault().page(page));
        let found = blocks(sparse);
        assert_eq!(
            (found.huge_blocks, found.huge_saving, found.huge_cost_pages),
            (1, 127, 384)
        );
        // A huge page that is there already has one fault.
        let already = [512, 1024, 1536].map(|page| fault().page(page));
        assert_eq!(blocks(already).huge_saving, 0);
        // Given back and filled again: one fault each time.
        let again = pages(512..1024).chain(pages(512..1024));
        assert_eq!(blocks(again).huge_saving, 2 * 511);
    }

    #[test]
    fn blocks_are_what_a_huge_page_of_the_machine_maps() {
        for (size, block) in [(4, 512), (16, 2048), (64, 8192)] {
            let page = |page: u64| fault().address(page * (size << 10));
            // Half of block 0, block 1 whole, and the first page of block 2.
            let found = blocks_of(kib(size), (block / 2..2 * block + 1).map(page));
            assert_eq!(
                (found.huge_blocks, found.huge_saving, found.huge_cost_pages),
                (1, block - 1, 0),
                "{size} KiB"
            );
            // One fault in each: huge pages.
            let found = blocks_of(kib(size), (0..3).map(|n| page(n * block)));
            assert_eq!((found.lone_blocks, found.huge_saving), (3, 0));
        }
        // 4 KiB apart is the same page, where pages are larger.
        let mut states = PageStates::new(kib(16));
        let new = [0, 0x1000, 0x3fff, 0x4000].map(|address| {
            let fault = fault().address(address).build();
            states.fault(&fault, PLACE).1
        });
        assert_eq!(new, [true, false, false, true]);
    }

    #[test]
    fn windows_have_bytes_whatever_the_pages_are() {
        let file = |kib: u64| {
            let fault = fault().kind(Kind::FileRead).mapping("/x");
            fault.address(kib << 10)
        };
        let at = [0, 64, 128, 129, 2000, 2400];
        for (size, pages, windows) in [
            (4, 6, [5, 4, 3, 3, 3, 2]),
            (16, 5, [5, 4, 3, 3, 3, 2]),
            (64, 5, [5, 4, 3, 3, 3, 2]),
        ] {
            // 129 KiB is another page than 128 only where pages have 4 KiB and it is 132.
            let at = at.map(|kib| if kib == 129 && size == 4 { 132 } else { kib });
            let found = blocks_of(kib(size), at.map(file));
            assert_eq!(
                (found.file_pages, found.windows),
                (pages, windows),
                "{size} KiB"
            );
        }
    }

    #[test]
    fn windows_of_file_pages() {
        let file = |page| fault().page(page).kind(Kind::FileRead).mapping("/x");
        let found = blocks([0, 16, 32, 33, 500, 600].map(file));
        assert_eq!(found.file_pages, 6);
        assert_eq!(found.windows, [5, 4, 3, 3, 3, 2]);
    }
}
