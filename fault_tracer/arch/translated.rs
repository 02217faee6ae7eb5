// SPDX-License-Identifier: GPL-2.0-only

//! What a walk of the page tables has found, whatever the processor.

use core::ptr::null;
use kernel::bindings;

use super::{page_in, walk_to_end, Entry};

/// By what an address is translated.
pub(crate) struct Translated {
    /// The power of two that is the size of the page in bytes; 0 where there is none.
    pub(crate) shift: u32,
    /// Its `struct page` (of a huge one: that of its first page), where it has one.
    pub(crate) page: Option<*const bindings::page>,
    /// The table of the last level that has its entry; null for a huge page, and where there is none.
    pub(crate) table: *const u64,
}

/// The page by which an address is translated.
///
/// # Safety
///
/// As [`super::entry`].
pub(crate) unsafe fn page_of(mm: *const bindings::mm_struct, address: u64) -> Translated {
    // SAFETY: By the contract.
    let end = unsafe { walk_to_end(mm, address) };
    if !Entry(end.entry).is_present() {
        return Translated {
            shift: 0,
            page: None,
            table: null(),
        };
    }
    Translated {
        shift: end.shift,
        page: page_in(end.entry, end.shift),
        table: if end.shift == bindings::PAGE_SHIFT {
            end.table
        } else {
            null()
        },
    }
}

/// The table of the last level for an address.
pub(crate) enum LastTable {
    /// Here.
    At(*const u64),
    /// There is none: nothing is mapped where it would translate.
    NotYet,
    /// In its place there is a huge page, or an entry that says where one is.
    Instead,
}

/// The table of the last level that has the entry of an address.
///
/// # Safety
///
/// As [`super::entry`]; the table is there as long as preemption is disabled.
pub(crate) unsafe fn last_table(mm: *const bindings::mm_struct, address: u64) -> LastTable {
    // SAFETY: By the contract.
    let end = unsafe { walk_to_end(mm, address) };
    if end.shift == bindings::PAGE_SHIFT {
        LastTable::At(end.table)
    } else if Entry(end.entry).is_none() {
        LastTable::NotYet
    } else {
        LastTable::Instead
    }
}

/// An entry of a table.
///
/// # Safety
///
/// `table` is one, of the last level, and `index` below [`super::ENTRIES`].
#[inline(always)]
pub(crate) unsafe fn entry_at(table: *const u64, index: usize) -> Entry {
    // SAFETY: By the contract; others may change it at any time.
    Entry(unsafe { table.wrapping_add(index).read_volatile() })
}

impl Entry {
    /// As the page table has it.
    #[inline(always)]
    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    /// The `struct page` of an entry of the last level by which the MMU translates, where it has one.
    #[inline(always)]
    pub(crate) fn page(self) -> Option<*const bindings::page> {
        if self.is_present() {
            page_in(self.0, bindings::PAGE_SHIFT)
        } else {
            None
        }
    }
}
