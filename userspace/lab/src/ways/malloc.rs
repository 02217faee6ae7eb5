// SPDX-License-Identifier: GPL-2.0-only

//! `malloc`: below the mmap threshold (128 KiB at first) memory comes from the heap, and stays with the program after `free`; above
//! it each allocation is a mapping of its own, which `free` gives back, so that the next one faults anew.
//! `posix_memalign` is the same with a place that fits `O_DIRECT`.

use std::alloc::{alloc, dealloc, Layout};

use anyhow::{ensure, Result};

use super::{Cases, Way};
use crate::lab::{page_size, Lab, Moved};

const SMALL: usize = 64 * 1024;
const LARGE: usize = 1024 * 1024;

pub const WAYS: &[Way] = &[
    Way {
        name: "malloc-small",
        cases: Cases::Memory,
        shows: "64 KiB again and again: the same pages of the heap",
        run: |lab| again_and_again(lab, SMALL, 16),
    },
    Way {
        name: "malloc-large",
        cases: Cases::Memory,
        shows: "1 MiB again and again, each a mapping until the threshold has grown",
        run: |lab| again_and_again(lab, LARGE, 16),
    },
    Way {
        name: "malloc-large-fixed",
        cases: Cases::Memory,
        shows: "the same with a threshold that does not grow: every page faults each time",
        run: |lab| {
            // As `GLIBC_TUNABLES=glibc.malloc.mmap_threshold=…` does from outside.
            // SAFETY: A call with two numbers, before other threads allocate.
            unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, 128 * 1024) };
            again_and_again(lab, LARGE, 16)
        },
    },
    Way {
        name: "posix-memalign",
        cases: Cases::Memory,
        shows: "1 MiB that begins on a page",
        run: |lab| again_and_again(lab, LARGE, page_size()),
    },
];

/// Allocates, writes and frees so much, until all bytes were moved. Larger alignments than the allocator's own are asked of
/// `posix_memalign` by Rust's library.
fn again_and_again(lab: &Lab, bytes: usize, alignment: usize) -> Result<Moved> {
    let layout = Layout::from_size_align(bytes, alignment)?;
    for _ in 0..lab.bytes / bytes {
        // SAFETY: The layout has a size.
        let memory = unsafe { alloc(layout) };
        ensure!(!memory.is_null(), "no memory");
        for offset in (0..bytes).step_by(page_size()) {
            // SAFETY: Within the memory. Volatile, as nobody reads it.
            unsafe { memory.add(offset).write_volatile(1) };
        }
        // SAFETY: It was allocated above, with this layout.
        unsafe { dealloc(memory, layout) };
    }
    Ok(Moved::unseen(lab.bytes))
}
