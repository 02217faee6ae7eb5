// SPDX-License-Identifier: GPL-2.0-only

//! `CLOCK_MONOTONIC` where it takes a call of the kernel to know it, each time.

use crate::layout::Structure;

/// There is nothing to be compared with the kernel that loads the module.
pub(crate) const LAYOUT: &[Structure] = &[];

/// No answer in place.
#[inline(always)]
pub(crate) fn read_quickly() -> Option<u64> {
    None
}

/// Whether [`read_quickly`] has an answer nearly always.
pub(crate) fn is_quick() -> bool {
    false
}

/// What lives while [`read_quickly`] may have an answer.
pub(crate) struct Quick(());

impl Quick {
    /// There is none.
    pub(crate) fn new(_by_call: fn() -> u64) -> Option<Self> {
        None
    }
}
