// SPDX-License-Identifier: GPL-2.0-only

//! `shared`: fresh pages of memory that processes share, of each kind there is.

use std::{ffi::CString, fs::File, io, num::NonZeroUsize, os::fd::FromRawFd};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use crate::{
    memory::{page_size, Access, Region},
    truth::Truth,
};

#[derive(Args, Clone)]
pub struct Options {
    /// Where the memory comes from
    #[arg(long, value_enum, default_value_t = Memory::Anonymous)]
    memory: Memory,
    /// Its pages; half of them are read, the others written
    #[arg(long, default_value = "100")]
    pages: NonZeroUsize,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Memory {
    /// mmap without a file
    Anonymous,
    /// memfd_create
    Memfd,
    /// shm_open
    Posix,
    /// shmget
    SystemV,
}

/// Takes a descriptor that a C function gave.
fn file(descriptor: i32, pages: NonZeroUsize) -> Result<File> {
    if descriptor < 0 {
        return Err(io::Error::last_os_error()).context("cannot make memory to share");
    }
    // SAFETY: The descriptor is new and nobody else's.
    let file = unsafe { File::from_raw_fd(descriptor) };
    file.set_len((pages.get() * page_size()) as u64)
        .context("cannot size memory to share")?;
    Ok(file)
}

fn region(memory: Memory, pages: NonZeroUsize) -> Result<Region> {
    match memory {
        Memory::Anonymous => Region::shared(None, pages),
        Memory::Memfd => {
            // SAFETY: A system call on a C string.
            let descriptor =
                unsafe { libc::memfd_create(c"ft-workload".as_ptr(), libc::MFD_CLOEXEC) };
            Region::shared(Some(&file(descriptor, pages)?), pages)
        }
        Memory::Posix => {
            let name = CString::new(format!("/ft-workload-{}", std::process::id()))?;
            // SAFETY: Calls on a C string.
            let descriptor = unsafe {
                libc::shm_open(
                    name.as_ptr(),
                    libc::O_RDWR | libc::O_CREAT | libc::O_EXCL,
                    0o600,
                )
            };
            let file = file(descriptor, pages)?;
            let region = Region::shared(Some(&file), pages);
            // SAFETY: As above.
            if unsafe { libc::shm_unlink(name.as_ptr()) } != 0 {
                return Err(io::Error::last_os_error()).context("cannot remove the name");
            }
            region
        }
        Memory::SystemV => Region::system_v(pages),
    }
}

pub fn run(options: &Options, mut truth: Truth) -> Result<()> {
    truth.text()?;
    let region = region(options.memory, options.pages)?;
    let access = |page: usize| match page % 2 {
        0 => Access::Write,
        _ => Access::Read,
    };
    truth.region(std::process::id(), &region.range());
    for page in 0..region.pages() {
        region.touch(page, access(page));
    }
    for page in 0..region.pages() {
        truth.fault(
            region.address(page),
            access(page),
            "file,shared,user",
            "shared-memory",
        );
    }
    truth.write()
}
