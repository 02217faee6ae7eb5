// SPDX-License-Identifier: GPL-2.0-only

//! What a processor takes until it has something quicker of its own: the calls of the kernel that do the same.

use core::{ffi::c_void, mem::size_of};
use kernel::bindings;

#[path = "portable/clock.rs"]
pub(crate) mod clock;

/// A word of the running CPU's copy of a per-CPU variable, an array of words.
///
/// # Safety
///
/// Preemption is disabled; `$index` is within the array `$variable`, a static of the section of per-CPU variables.
macro_rules! this_cpus_word {
    ($variable:path, $index:expr) => {{
        let offset = kernel::bindings::__per_cpu_offset[$crate::arch::cpu_id()];
        (&raw const $variable)
            .cast::<usize>()
            .wrapping_byte_add(offset as usize)
            .add($index as usize)
            .read_volatile()
    }};
}
pub(crate) use this_cpus_word;

/// A word of the running thread's user memory; `None` where it cannot be read. It does not wait for what is not in memory.
pub(crate) fn read_user(address: u64) -> Option<u64> {
    let mut word = 0_u64;
    // SAFETY: The call checks the address, and takes an exception there for an answer. What it writes to is as long.
    let failed = unsafe {
        bindings::copy_from_user_nofault(
            (&raw mut word).cast::<c_void>(),
            address as *const c_void,
            size_of::<u64>(),
        )
    };
    (failed == 0).then_some(word)
}

/// Copies words of the running thread's user memory; whether all could be read. It does not wait for what is not in memory.
///
/// # Safety
///
/// `to` is valid for so many words.
pub(crate) unsafe fn copy_user(to: *mut u64, from: u64, words: usize) -> bool {
    let bytes = words.wrapping_mul(size_of::<u64>());
    // SAFETY: By the contract, and as in `read_user`.
    let failed = unsafe {
        bindings::copy_from_user_nofault(to.cast::<c_void>(), from as *const c_void, bytes)
    };
    failed == 0
}
