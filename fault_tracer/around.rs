// SPDX-License-Identifier: GPL-2.0-only

//! How many pages a fault has mapped beside the one that it was for.
//!
//! A read of a file's page that is not mapped maps those around it, too, as far as they are in memory
//! (`do_fault_around` of `mm/memory.c`): the entries of a window of 64 KiB that are empty, and with a page of a large folio all
//! of that folio (`filemap_map_folio_range`, `finish_fault`), as far as it lies within the mapping and one page table.
//! Nothing in the kernel counts that for each fault. So the entries are looked at before the fault and after it: what was empty
//! and has a page now was filled meanwhile.

use core::{
    cmp::{max, min},
    mem::{size_of, MaybeUninit},
};
use kernel::bindings;

use super::{
    arch::page_table::{self, Entry, LastTable, ENTRIES},
    uapi::{self, fault_flag},
};

/// Entries that the kernel fills around a fault: the default of `fault_around_bytes`.
const WINDOW: usize = (64 << 10) >> bindings::PAGE_SHIFT;
/// Entries in a line of the processor's cache, which are looked at together.
const LINE: usize = 8;
/// Words of bits that say which entries near the fault were empty.
const WORDS: usize = 2;
/// Entries that they are for: the window, and on either side so many that folios of 128 KiB, as read-ahead makes them, end there.
const NEAR: usize = WORDS * 64;
/// Those below the window.
const NEAR_BELOW: usize = (NEAR - WINDOW - LINE) / 2 / LINE * LINE;
/// Entries beyond those that are looked at in either direction. Of pages of 4 KiB a whole table has no more.
const FAR: usize = 512;

const _: () = {
    assert!(WINDOW > 0 && NEAR_BELOW + WINDOW + LINE <= NEAR);
    assert!(ENTRIES >= NEAR && ENTRIES % LINE == 0 && ENTRIES <= u16::MAX as usize);
};

/// What the page table had around an address before a fault: indices in the table of the last level, and which entries were empty.
#[derive(Clone, Copy)]
pub(crate) struct Before {
    /// From `near` on, a bit for each entry: it was empty.
    empty: [u64; WORDS],
    near: u16,
    /// The entry of the address.
    own: u16,
    /// The window.
    from: u16,
    to: u16,
    /// All entries from `low` to the first of `empty` were empty, and from its last one to `high`.
    low: u16,
    high: u16,
    /// Those of the mapping.
    first: u16,
    end: u16,
}

impl Before {
    /// Looks around the address of a fault that is to be handled, with these flags. False where it is none that maps others'
    /// pages, or nothing can be known: then nothing is written to `to`.
    ///
    /// # Safety
    ///
    /// As [`page_table::entry`], for the memory of this mapping.
    #[inline(always)]
    pub(crate) unsafe fn look(
        to: &mut MaybeUninit<Self>,
        vma: &bindings::vm_area_struct,
        address: u64,
        flags: u64,
    ) -> bool {
        // SAFETY: A mapping's operations stay.
        let maps_pages = unsafe { vma.vm_ops.as_ref() }.is_some_and(|ops| ops.map_pages.is_some());
        // SAFETY: By the contract.
        maps_pages && flags & fault_flag::WRITE == 0 && unsafe { Self::write(to, vma, address) }
    }

    /// # Safety
    ///
    /// As [`Self::look`].
    #[inline(never)]
    unsafe fn write(
        to_write: &mut MaybeUninit<Self>,
        vma: &bindings::vm_area_struct,
        address: u64,
    ) -> bool {
        // SAFETY: The range does not change while the mapping is locked.
        let (start, end) = unsafe {
            let range = &vma.__bindgen_anon_1.__bindgen_anon_1;
            (range.vm_start as u64, range.vm_end as u64)
        };
        // SAFETY: By the contract.
        let table = match unsafe { page_table::last_table(vma.vm_mm, address) } {
            LastTable::At(table) => Some(table),
            LastTable::NotYet => None,
            LastTable::Instead => return false,
        };
        let own = (address >> bindings::PAGE_SHIFT) as usize & (ENTRIES - 1);
        let pages = |bytes: u64| (bytes >> bindings::PAGE_SHIFT) as usize;
        // As `do_fault_around` has it: both ends are those of the table at most.
        let first = own.saturating_sub(pages(address.wrapping_sub(start)));
        let page = address >> bindings::PAGE_SHIFT << bindings::PAGE_SHIFT;
        let end = min(ENTRIES, own.saturating_add(pages(end.wrapping_sub(page))));
        let from = max(own & !(WINDOW - 1), first);
        let to = min(from.wrapping_add(WINDOW), end);
        let near = min(
            (from & !(LINE - 1)).saturating_sub(NEAR_BELOW),
            ENTRIES - NEAR,
        );
        let behind = near.wrapping_add(NEAR);
        let lowest = max(first, near.saturating_sub(FAR));
        let highest = min(end, behind.wrapping_add(FAR));
        let (empty, low, high) = match table {
            // SAFETY: The walk has found it just now, and preemption is disabled since; all indices are those of entries.
            Some(table) => unsafe {
                (
                    empty_from(table, near),
                    empty_down(table, near, lowest),
                    empty_up(table, behind, highest),
                )
            },
            None => ([u64::MAX; WORDS], lowest, highest),
        };
        let before = Self {
            empty,
            near: near as u16,
            own: own as u16,
            from: from as u16,
            to: to as u16,
            low: min(low, near) as u16,
            high: max(high, behind) as u16,
            first: first as u16,
            end: end as u16,
        };
        // One that has an entry is handled otherwise.
        let is_known = before.was_empty(own);
        if is_known {
            to_write.write(before);
        }
        is_known
    }

    /// Whether an entry from `low` to `high` was empty.
    #[inline(always)]
    fn was_empty(&self, index: usize) -> bool {
        let bit = index.wrapping_sub(self.near.into());
        match self.empty.get(bit / 64) {
            Some(word) => word >> (bit % 64) & 1 != 0,
            None => true,
        }
    }

    /// [`uapi::ReturnRecord::result`]'s part for the pages that were mapped since, beside the one of the address: their number
    /// plus 1; 0 where it is not known.
    ///
    /// What other threads have mapped there at the same time is among them.
    ///
    /// # Safety
    ///
    /// `table` is the one that has the entry of the address now, preemption was not enabled since it was found, and the mapping is
    /// locked as it was before.
    // Apart, so that others need not pay for the registers that it needs.
    #[inline(never)]
    pub(crate) unsafe fn filled(&self, table: *const u64) -> u32 {
        let (first, end) = (usize::from(self.first), usize::from(self.end));
        let (mut from, mut to) = (usize::from(self.from), usize::from(self.to));
        for edge in [from, to.wrapping_sub(1)] {
            // SAFETY: By the contract.
            if let Some((head, behind)) = unsafe { folio_at(table, edge) } {
                // Of any other, the window alone is mapped.
                if head >= first && behind <= end {
                    from = min(from, head);
                    to = max(to, behind);
                }
            }
        }
        let (low, high) = (usize::from(self.low), usize::from(self.high));
        // Beyond, it is not known which entries were empty.
        if from < low || to > high {
            return 0;
        }
        // With some beside those that the kernel is known to map.
        let lowest = max(max(first, low), from.saturating_sub(LINE));
        let highest = min(min(end, high), to.wrapping_add(LINE));
        let mut filled = 1_u32;
        for index in lowest..highest {
            // SAFETY: By the contract; the index is that of an entry of the mapping.
            let has_page = || unsafe { page_table::entry_at(table, index) }.has_page();
            if index == usize::from(self.own) || !self.was_empty(index) || !has_page() {
                continue;
            }
            if index < from || index >= to {
                // It maps more: `fault_around_bytes` may be larger than its default.
                return 0;
            }
            filled = filled.wrapping_add(1);
        }
        if filled > uapi::AROUND_MASK {
            0
        } else {
            filled
        }
    }
}

/// What the entries of a line have in common with an empty one: 0 if all are empty.
///
/// # Safety
///
/// As [`page_table::entry_at`], for all of the line that begins at `index`.
#[inline(always)]
unsafe fn line(table: *const u64, index: usize) -> u64 {
    let mut all = 0;
    for place in 0..LINE {
        // SAFETY: By the contract.
        all |= unsafe { page_table::entry_at(table, index.wrapping_add(place)) }.bits();
    }
    all
}

/// Which entries from `near` on, the first of a line, are empty.
///
/// # Safety
///
/// `table` is one of the last level, and `near` at most `ENTRIES - NEAR`.
#[inline(always)]
unsafe fn empty_from(table: *const u64, near: usize) -> [u64; WORDS] {
    let mut index = near;
    let mut words = [0_u64; WORDS];
    for word in &mut words {
        for shift in 0..64 / LINE {
            // SAFETY: By the contract.
            let mut empty = if unsafe { line(table, index) } == 0 {
                (1 << LINE) - 1
            } else {
                0_u64
            };
            if empty == 0 {
                for place in 0..LINE {
                    // SAFETY: By the contract.
                    let entry = unsafe { page_table::entry_at(table, index.wrapping_add(place)) };
                    empty |= u64::from(entry.is_none()) << place;
                }
            }
            *word |= empty << (shift * LINE);
            index = index.wrapping_add(LINE);
        }
    }
    words
}

/// Down to where all entries below `from`, the first of a line, are empty; `lowest` at most.
///
/// # Safety
///
/// `table` is one of the last level, and `from` at most `ENTRIES`.
#[inline(always)]
unsafe fn empty_down(table: *const u64, from: usize, lowest: usize) -> usize {
    let mut index = from;
    while index > lowest {
        let below = index.saturating_sub(LINE);
        // SAFETY: By the contract.
        if unsafe { line(table, below) } != 0 {
            break;
        }
        index = below;
    }
    index
}

/// Up to where all entries from `from` on, the first of a line, are empty; `highest` at most.
///
/// # Safety
///
/// As [`empty_down`], for both.
#[inline(always)]
unsafe fn empty_up(table: *const u64, from: usize, highest: usize) -> usize {
    let mut index = from;
    while index < highest {
        // SAFETY: By the contract: `ENTRIES` is a multiple of `LINE`.
        if unsafe { line(table, index) } != 0 {
            break;
        }
        index = index.wrapping_add(LINE);
    }
    index
}

/// The entries that the folio of an entry's page takes, if it lies in one table.
///
/// # Safety
///
/// As [`page_table::entry_at`].
#[inline(always)]
unsafe fn folio_at(table: *const u64, index: usize) -> Option<(usize, usize)> {
    // SAFETY: By the contract.
    let entry: Entry = unsafe { page_table::entry_at(table, index) };
    let page = entry.page()?;
    // SAFETY: A page of memory that is mapped, see `page_and_folio`.
    let (head, order) = unsafe { folio_of(page) };
    let place = (page as usize).wrapping_sub(head as usize) / size_of::<bindings::page>();
    let first = index.checked_sub(place)?;
    Some((first, first.wrapping_add(1 << order)))
}

/// The first page of the folio that a page is one of, and its order. `page_folio` and `folio_order` of `include/linux`.
///
/// # Safety
///
/// `page` is a `struct page`. The folio may be freed at any time: then the result is that of another.
#[inline(always)]
pub(crate) unsafe fn folio_of(page: *const bindings::page) -> (*const bindings::page, u32) {
    const HEAD: usize = 1 << bindings::pageflags_PG_head;
    /// Larger ones there are not.
    const MOST: u32 = 18;
    // SAFETY: By the contract; each word may change at any time.
    unsafe {
        let info = (&raw const (*page).__bindgen_anon_1.__bindgen_anon_1.__bindgen_anon_1)
            .cast::<usize>()
            .read_volatile();
        let head = if info & 1 == 0 {
            page
        } else if cfg!(CONFIG_HUGETLB_PAGE_OPTIMIZE_VMEMMAP) {
            // The rest is a mask for the address.
            (page as usize & info) as *const bindings::page
        } else {
            info.wrapping_sub(1) as *const bindings::page
        };
        let folio = head.cast::<bindings::folio>();
        let flags = (&raw const (*head).flags.f).read_volatile();
        if flags & HEAD == 0 {
            return (page, 0);
        }
        let order =
            (&raw const (*folio).__bindgen_anon_2.__bindgen_anon_1._flags_1).read_volatile();
        let order = order as u32 & 0xff;
        if order > MOST {
            (page, 0)
        } else {
            (head, order)
        }
    }
}
