// SPDX-License-Identifier: GPL-2.0-only

//! What of a file is in memory: read where it lies, without waiting for anything.
//!
//! Code that runs was mapped by somebody who read the head of its file: the kernel of a program, the dynamic loader of
//! a library. So the build id is nearly always there. The kernel's own `build_id_parse_nofault` of `lib/buildid.c`
//! does the same, and is not exported to modules.

use core::ptr::{null, null_mut};
use kernel::{bindings, ffi::c_void, page::PAGE_SIZE};

use super::{arch, elf};

/// `PG_uptodate` of `include/linux/page-flags.h`: the folio's content is the file's.
const UP_TO_DATE: usize = 1 << bindings::pageflags_PG_uptodate;
/// `PG_hwpoison`, where the kernel knows of it: the page's memory is broken.
#[cfg(CONFIG_MEMORY_FAILURE)]
const POISONED: usize = 1 << bindings::pageflags_PG_hwpoison;
#[cfg(not(CONFIG_MEMORY_FAILURE))]
const POISONED: usize = 0;

/// What a file says of itself, and of its code in the page at an offset; `None` where that cannot be said from what is
/// in memory.
///
/// # Safety
///
/// `file` is an open file. Preemption may be disabled.
pub(crate) unsafe fn describe(file: *const bindings::file, offset: u64) -> Option<elf::Described> {
    let mut cached = Cached {
        // SAFETY: By the contract; `f_mapping` lives as long as the file, and its inode.
        mapping: unsafe { (*file).f_mapping },
        held: bindings::folio_batch {
            nr: 0,
            i: 0,
            percpu_pvec_drained: false,
            folios: [null_mut(); 31],
        },
        number: 0,
        page: null(),
    };
    elf::describe(offset, PAGE_SIZE as u64, |from, to| cached.read(from, to))
}

/// The pages of a file, of which one is held.
struct Cached {
    mapping: *mut bindings::address_space,
    /// The folio of the page, or nothing.
    held: bindings::folio_batch,
    /// Its number in the file.
    number: usize,
    page: *const bindings::page,
}

impl Cached {
    /// Copies what begins at an offset; false if some of it is not in memory.
    fn read(&mut self, mut offset: u64, mut to: &mut [u8]) -> bool {
        // What is read is shorter than a page.
        for _ in 0..2 {
            let in_page = offset as usize % PAGE_SIZE;
            let bytes = to.len().min(PAGE_SIZE.wrapping_sub(in_page));
            let Some((part, rest)) = to.split_at_mut_checked(bytes) else {
                return false;
            };
            if !self.read_in_page(offset as usize / PAGE_SIZE, in_page, part) {
                return false;
            }
            if rest.is_empty() {
                return true;
            }
            to = rest;
            offset = offset.wrapping_add(bytes as u64);
        }
        false
    }

    /// Copies what begins at a byte of a page, and ends in it.
    fn read_in_page(&mut self, number: usize, byte: usize, to: &mut [u8]) -> bool {
        if (self.page.is_null() || self.number != number) && !self.hold(number) {
            return false;
        }
        // SAFETY: The page is held. Its flags may change at any time. One that is not in the kernel's own map of memory
        // (`memfd_secret`), or goes from it, ends the copy.
        unsafe {
            if (&raw const (*self.page).flags.f).read_volatile() & POISONED != 0 {
                return false;
            }
            let from = arch::address_of(self.page).wrapping_add(byte);
            bindings::copy_from_kernel_nofault(
                to.as_mut_ptr().cast(),
                from.cast::<c_void>(),
                to.len(),
            ) == 0
        }
    }

    /// Holds a page instead of the one before; false if it is not in memory, or not read in yet.
    fn hold(&mut self, number: usize) -> bool {
        self.release();
        let mut next = number;
        // SAFETY: The mapping is that of an open file. The batch is empty; it gets the folio of this very page, which is
        // looked up under RCU, without a lock, and held by a reference.
        unsafe { bindings::filemap_get_folios(self.mapping, &mut next, number, &mut self.held) };
        let (1.., Some(&folio)) = (self.held.nr, self.held.folios.first()) else {
            return false;
        };
        let head = folio.cast::<bindings::page>().cast_const();
        // SAFETY: The folio is held. It keeps its place in the file while it is, also when the file gives it up; the
        // `struct page` of each of its pages stands behind the first one's.
        unsafe {
            if (&raw const (*head).flags.f).read_volatile() & UP_TO_DATE == 0 {
                return false;
            }
            let cache = &(*head).__bindgen_anon_1.__bindgen_anon_1;
            let first = cache.__bindgen_anon_2.__folio_index;
            self.page = head.wrapping_add(number.wrapping_sub(first));
        }
        self.number = number;
        true
    }

    /// Holds nothing any more.
    fn release(&mut self) {
        self.page = null();
        if self.held.nr != 0 {
            // SAFETY: The batch holds a reference to what is in it. It is empty afterwards.
            unsafe { bindings::folios_put_refs(&mut self.held, null_mut()) };
        }
    }
}

impl Drop for Cached {
    fn drop(&mut self) {
        self.release();
    }
}
