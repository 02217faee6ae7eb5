// SPDX-License-Identifier: GPL-2.0-only

//! What the page tables say of a fault's address, as the kernel will take it: the basis of a fault's kind.

use kernel::bindings;

use super::{
    arch::page_table::{self, Entry},
    uapi::{entry, fault_flag},
};

/// What the page tables say of an address in a mapping with these `vm_flags`: [`fault_flag::PRESENT`],
/// [`fault_flag::SWAP_ENTRY`] or neither, and with it what [`entry`] tells.
///
/// # Safety
///
/// As [`page_table::entry`].
#[inline(always)]
pub(crate) unsafe fn of(mm: *const bindings::mm_struct, address: u64, vm_flags: u64) -> u64 {
    // SAFETY: By the contract.
    let found = unsafe { page_table::entry(mm, address) };
    if vm_flags & UFFD == 0 {
        if found.is_empty() {
            return 0;
        }
        if found.is_present() {
            return fault_flag::PRESENT;
        }
    }
    // SAFETY: By the contract.
    meaning(unsafe { settled(mm, address, found) }, vm_flags)
}

/// How often [`settled`] looks again, with a pause between two looks: some milliseconds, since the CPU that holds the
/// lock may be one of a guest's that its host does not let run.
///
/// Under PREEMPT_RT some microseconds: the holder may be a thread that this CPU would have to run.
const PATIENCE: u32 = if cfg!(CONFIG_PREEMPT_RT) {
    1 << 8
} else {
    1 << 16
};

/// An entry, looked at again while another CPU is changing it, but not for ever.
///
/// While a page is copied, moved, swapped out or protected otherwise its entry is empty for a moment, under the
/// table's lock. A fault of another thread right then is none of memory that was never there. What waits here would
/// wait for the same lock as soon as `handle_mm_fault` goes on.
///
/// # Safety
///
/// As [`of`].
#[inline(always)]
unsafe fn settled(mm: *const bindings::mm_struct, address: u64, mut found: Entry) -> Entry {
    let mut looks = 0;
    while found.is_changing() && looks < PATIENCE {
        core::hint::spin_loop();
        // SAFETY: By the contract.
        found = unsafe { page_table::entry(mm, address) };
        looks = looks.wrapping_add(1);
    }
    found
}

/// What the entry at which a walk ends says: what `handle_pte_fault` and `__handle_mm_fault` of `mm/memory.c`
/// will make of it.
#[cold]
#[inline(never)]
fn meaning(found: Entry, vm_flags: u64) -> u64 {
    if found.is_present() {
        let write_protected = vm_flags & VM_UFFD_WP != 0 && found.is_marked_by_uffd();
        fault_flag::PRESENT | if write_protected { entry::UFFD_WP } else { 0 }
    } else if found.is_withheld() {
        fault_flag::PRESENT
            | if vm_flags & VM_ACCESS == 0 {
                entry::PROTECTED
            } else if vm_flags & VM_UFFD_RWP != 0 && found.is_marked_by_uffd() {
                entry::UFFD_RWP
            } else {
                entry::NUMA_HINT
            }
    } else if found.is_huge_in_between() {
        fault_flag::PRESENT
    } else if found.is_changing() {
        entry::CHANGING
    } else if !found.is_none() {
        fault_flag::SWAP_ENTRY | swap_type(found)
    } else if vm_flags & VM_UFFD_MISSING != 0 {
        entry::UFFD_MISSING
    } else if vm_flags & VM_UFFD_MINOR != 0 {
        entry::UFFD_MINOR
    } else {
        0
    }
}

/// Of what type an entry in swap format is: the kernel takes the last types of swap areas for other purposes
/// (`include/linux/swap.h`, `include/linux/swapops.h`). 0 for a page that is in a swap area, and for what
/// this module does not know.
fn swap_type(found: Entry) -> u64 {
    let (kind, marker) = found.swap();
    if kind < SWP_HWPOISON {
        0
    } else if kind < SWP_MIGRATION {
        entry::HWPOISON
    } else if kind < SWP_DEVICE {
        entry::MIGRATION
    } else if kind < SWP_PTE_MARKER {
        if kind < SWP_PTE_MARKER - 1 {
            entry::DEVICE_PRIVATE
        } else {
            entry::DEVICE_EXCLUSIVE
        }
    } else {
        // In the order in which `handle_pte_marker` looks at them.
        if marker & PTE_MARKER_POISONED != 0 {
            entry::POISONED
        } else if marker & PTE_MARKER_GUARD != 0 {
            entry::GUARD
        } else if marker & PTE_MARKER_UFFD_WP != 0 {
            entry::UFFD_WP
        } else {
            0
        }
    }
}

/// The first type that is no swap area's, and those behind it.
const SWP_HWPOISON: u64 = bindings::MAX_SWAPFILES as u64;
const SWP_MIGRATION: u64 = SWP_HWPOISON + bindings::SWP_HWPOISON_NUM as u64;
const SWP_DEVICE: u64 = SWP_MIGRATION + bindings::SWP_MIGRATION_NUM as u64;
const SWP_PTE_MARKER: u64 = SWP_DEVICE + bindings::SWP_DEVICE_NUM as u64;

/// `PTE_MARKER_…` of `include/linux/swapops.h`.
const PTE_MARKER_UFFD_WP: u64 = 1 << 0;
const PTE_MARKER_POISONED: u64 = 1 << 1;
const PTE_MARKER_GUARD: u64 = 1 << 2;

const _: () = {
    assert!(
        SWP_PTE_MARKER + bindings::SWP_PTE_MARKER_NUM as u64 == 1 << bindings::MAX_SWAPFILES_SHIFT
    );
    // Device entries for reading, for writing and exclusive ones; or none, where the kernel has no support.
    assert!(bindings::SWP_DEVICE_NUM == 3 || bindings::SWP_DEVICE_NUM == 0);
};

/// `VM_ACCESS_FLAGS` of `include/linux/mm.h`.
const VM_ACCESS: u64 =
    1 << bindings::VMA_READ_BIT | 1 << bindings::VMA_WRITE_BIT | 1 << bindings::VMA_EXEC_BIT;

/// The `VM_UFFD_…` of `include/linux/mm.h`: registered with userfaultfd.
const VM_UFFD_MISSING: u64 = 1 << bindings::VMA_UFFD_MISSING_BIT;
const VM_UFFD_MINOR: u64 = 1 << bindings::VMA_UFFD_MINOR_BIT;
const VM_UFFD_WP: u64 = 1 << bindings::VMA_UFFD_WP_BIT;
#[cfg(CONFIG_USERFAULTFD_RWP)]
const VM_UFFD_RWP: u64 = 1 << bindings::VMA_UFFD_RWP_BIT;
#[cfg(not(CONFIG_USERFAULTFD_RWP))]
const VM_UFFD_RWP: u64 = 0;

/// Mappings whose faults userfaultfd may have a part in.
pub(crate) const UFFD: u64 = VM_UFFD_MISSING | VM_UFFD_MINOR | VM_UFFD_WP | VM_UFFD_RWP;
