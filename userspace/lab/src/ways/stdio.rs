// SPDX-License-Identifier: GPL-2.0-only

//! The C library's `fread` and `fwrite`: a buffer of the library between the program's and the kernel, hence a second copy,
//! and one more page that faults.

use std::{ffi::CString, os::unix::ffi::OsStrExt as _, path::Path, ptr::NonNull};

use anyhow::{Context as _, Result};

use super::{Cases, Way};
use crate::lab::{page_size, Lab, Moved};

pub const WAYS: &[Way] = &[
    Way {
        name: "stdio-read",
        cases: Cases::File,
        shows: "fread(3) of pages, through the library's buffer",
        run: read,
    },
    Way {
        name: "stdio-write",
        cases: Cases::File,
        shows: "fread(3), then fwrite(3)",
        run: write,
    },
];

struct Stream(NonNull<libc::FILE>);

impl Stream {
    fn open(path: &Path, mode: &std::ffi::CStr) -> Result<Self> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        // SAFETY: Both are strings with an end.
        let stream = unsafe { libc::fopen(path.as_ptr(), mode.as_ptr()) };
        NonNull::new(stream)
            .map(Self)
            .context(std::io::Error::last_os_error())
    }

    fn read(&self, to: &mut [u8]) -> usize {
        // SAFETY: The stream is open, and there is room for so many bytes.
        unsafe { libc::fread(to.as_mut_ptr().cast(), 1, to.len(), self.0.as_ptr()) }
    }

    fn write(&self, from: &[u8]) -> usize {
        // SAFETY: The stream is open, and so many bytes are there.
        unsafe { libc::fwrite(from.as_ptr().cast(), 1, from.len(), self.0.as_ptr()) }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: It is open, and not used any more.
        unsafe { libc::fclose(self.0.as_ptr()) };
    }
}

fn read(lab: &Lab) -> Result<Moved> {
    let stream = Stream::open(&lab.from, c"r")?;
    let mut page = vec![0; page_size()];
    let mut moved = Moved::default();
    while stream.read(&mut page) == page_size() {
        moved.read(&page);
    }
    Ok(moved)
}

fn write(lab: &Lab) -> Result<Moved> {
    let (from, to) = (Stream::open(&lab.from, c"r")?, Stream::open(&lab.to, c"w")?);
    let mut page = vec![0; page_size()];
    let mut bytes = 0;
    while from.read(&mut page) == page_size() {
        bytes += to.write(&page);
    }
    Ok(Moved::unseen(bytes))
}
