// SPDX-License-Identifier: GPL-2.0-only

//! What walks of the page tables find, whatever the processor.

use core::ptr::null;
use kernel::bindings;

/// By what an address is translated.
pub(crate) struct Translated {
    /// The power of two that is the size of the page in bytes; 0 where there is none.
    pub(crate) shift: u32,
    /// Its `struct page` (of a huge one: that of its first page), where it has one.
    pub(crate) page: Option<*const bindings::page>,
    /// The table of the last level that has its entry; null for a huge page, and where there is none.
    pub(crate) table: *const u64,
}

impl Translated {
    /// There is no page.
    pub(crate) const NOT: Self = Self {
        shift: 0,
        page: None,
        table: null(),
    };
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
