// SPDX-License-Identifier: GPL-2.0-only

//! Sets of pages, a bit for each: of a block, which is what a transparent huge page maps (an aligned 2 MiB where pages have
//! 4 KiB); and of the runs that a block has, which are what is kept, since most blocks of a large program are touched here
//! and there.

use fault_tracer_trace::PageSize;

/// Pages of a run.
const RUN_PAGES: u64 = 64;

/// Runs in a block: 8 where pages have 4 KiB, 128 where they have 64.
pub const fn block_runs(page_size: PageSize) -> u64 {
    page_size.of_huge_page() / RUN_PAGES
}

/// Pages of a run: an aligned 64 of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Run(u64);

impl Run {
    /// Whether page `index` (below 64) is in it.
    pub fn has(self, index: u64) -> bool {
        self.0 >> index & 1 != 0
    }

    /// Adds page `index` (below 64); whether it was not in it.
    pub fn insert(&mut self, index: u64) -> bool {
        let is_new = !self.has(index);
        self.0 |= 1 << index;
        is_new
    }

    /// Takes page `index` (below 64) away; whether it was in it.
    pub fn remove(&mut self, index: u64) -> bool {
        let was = self.has(index);
        self.0 &= !(1 << index);
        was
    }

    /// How many there are.
    pub fn count(self) -> u64 {
        self.0.count_ones().into()
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Pages of a block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pages(Vec<u64>);

impl Pages {
    /// Those of its runs.
    pub fn of_runs(runs: impl IntoIterator<Item = Run>) -> Self {
        Self(runs.into_iter().map(|run| run.0).collect())
    }

    /// Whether its first page is in it.
    pub fn has_first(&self) -> bool {
        self.0.first().is_some_and(|word| word & 1 != 0)
    }

    /// Whether its last page is in it.
    pub fn has_last(&self) -> bool {
        self.0.last().is_some_and(|word| word >> 63 != 0)
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// How many aligned windows of `pages` (a power of two, at most those of the block) have one of them.
    pub fn windows(&self, pages: u64) -> u64 {
        let count = (0..self.0.len() as u64 * RUN_PAGES / pages).filter(|window| {
            let first = window * pages;
            if pages >= RUN_PAGES {
                let words = (first / RUN_PAGES) as usize..((first + pages) / RUN_PAGES) as usize;
                self.0[words].iter().any(|word| *word != 0)
            } else {
                self.0[(first / RUN_PAGES) as usize] >> (first % RUN_PAGES) & ((1 << pages) - 1)
                    != 0
            }
        });
        count.count() as u64
    }
}

/// The run of an address, and the page in it.
pub fn run_and_page(address: u64, page_size: PageSize) -> (u64, u64) {
    let page = page_size.page_of(address);
    (page / RUN_PAGES, page % RUN_PAGES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_and_windows() {
        let mut runs = [Run::default(); 8];
        for page in [0, 15, 16, 63, 64, 511] {
            assert!(runs[page / 64].insert(page as u64 % 64));
        }
        assert!(!runs[0].insert(15));
        let pages = Pages::of_runs(runs);
        assert_eq!(pages.count(), 6);
        let windows = [1, 16, 32, 64, 128, 512].map(|size| pages.windows(size));
        assert_eq!(windows, [6, 5, 4, 3, 2, 1]);
        assert!(pages.has_first() && pages.has_last());
        let others = Pages::of_runs([Run(2), Run(1 << 62)]);
        assert!(!others.has_first() && !others.has_last());
        assert!(runs[0].remove(15) && !runs[0].remove(15) && !runs[0].has(15));
        let address = 0x7f12_3460_1fff;
        let of = |bytes| run_and_page(address, PageSize::of_bytes(bytes).unwrap());
        assert_eq!(of(4 << 10), (address >> 18, 1));
        assert_eq!(of(64 << 10), (address >> 22, 0x20));
    }
}
