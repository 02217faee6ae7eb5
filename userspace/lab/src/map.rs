// SPDX-License-Identifier: GPL-2.0-only

//! A mapping of this program: memory that exists when it is touched.

use std::{
    ffi::c_void,
    fs::File,
    ops::{Deref, DerefMut},
    ptr, slice,
};

use anyhow::Result;
use rustix::mm::{madvise, mmap, mmap_anonymous, munmap, Advice, MapFlags, ProtFlags};

/// A mapping, unmapped when dropped.
pub struct Map {
    start: *mut c_void,
    bytes: usize,
}

impl Map {
    /// Maps the beginning of a file.
    pub fn of_file(file: &File, bytes: usize, flags: MapFlags) -> Result<Self> {
        let rights = if flags.contains(MapFlags::SHARED) && file_is_read_only(file) {
            ProtFlags::READ
        } else {
            ProtFlags::READ | ProtFlags::WRITE
        };
        // SAFETY: The kernel chooses the place, so that no memory of ours is replaced. Nobody else changes the files of the
        // lab while they are mapped.
        let start = unsafe { mmap(ptr::null_mut(), bytes, rights, flags, file, 0) }?;
        Ok(Self { start, bytes })
    }

    /// Maps memory.
    pub fn of_memory(bytes: usize, flags: MapFlags) -> Result<Self> {
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: The kernel chooses the place.
        let start = unsafe { mmap_anonymous(ptr::null_mut(), bytes, rights, flags) }?;
        Ok(Self { start, bytes })
    }

    /// Tells the kernel what will be done with the mapping.
    pub fn advise(&self, advice: Advice) -> Result<()> {
        // SAFETY: The whole mapping is ours. No advice that the lab gives takes away what is there but `DONTNEED` and its kind,
        // after which a file's pages are read anew, and memory is zero: values that are valid, too.
        Ok(unsafe { madvise(self.start, self.bytes, advice) }?)
    }

    /// Where it begins.
    pub fn start(&self) -> *mut c_void {
        self.start
    }
}

fn file_is_read_only(file: &File) -> bool {
    rustix::fs::fcntl_getfl(file).is_ok_and(|flags| !flags.contains(rustix::fs::OFlags::RDWR))
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: It is mapped and readable as long as `self` lives.
        unsafe { slice::from_raw_parts(self.start.cast(), self.bytes) }
    }
}

impl DerefMut for Map {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: As above, and nobody else has a reference. Those of a file that is open for reading alone are not written.
        unsafe { slice::from_raw_parts_mut(self.start.cast(), self.bytes) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: Nobody has a reference any more. It cannot fail for a mapping that is there.
        let _ = unsafe { munmap(self.start, self.bytes) };
    }
}
