// SPDX-License-Identifier: GPL-2.0-only

//! userfaultfd (linux/userfaultfd.h): a program that handles the faults of its own memory.

use std::{
    fs::File,
    io::{self, Read as _},
    ops::Range,
    os::fd::{AsRawFd, FromRawFd},
};

use anyhow::{bail, ensure, Context, Result};

use crate::memory::page_size;

const API: u64 = 0xaa;
const UFFDIO_API: u64 = 0xc018_aa3f;
const UFFDIO_REGISTER: u64 = 0xc020_aa00;
const UFFDIO_COPY: u64 = 0xc028_aa03;
const UFFDIO_WRITEPROTECT: u64 = 0xc018_aa06;
const UFFDIO_CONTINUE: u64 = 0xc020_aa07;
const UFFDIO_POISON: u64 = 0xc020_aa08;
const UFFDIO_RWPROTECT: u64 = 0xc018_aa09;
const EVENT_PAGEFAULT: u8 = 0x12;
/// Words of a message; the first byte tells what it is of, the third word is the address.
const MESSAGE_WORDS: usize = 4;

/// `UFFD_FEATURE_…`.
pub mod feature {
    /// Write protection.
    pub const WP: u64 = 1 << 0;
    /// Faults of pages of shared memory that are there.
    pub const MINOR_SHMEM: u64 = 1 << 10;
    /// Write protection of shared memory.
    pub const WP_SHMEM: u64 = 1 << 12;
    /// Pages marked as lost.
    pub const POISON: u64 = 1 << 14;
    /// Protection from reads and writes.
    pub const RWP: u64 = 1 << 17;
}

/// What a range is registered for: `UFFDIO_REGISTER_MODE_…`.
#[derive(Clone, Copy)]
pub enum Mode {
    /// Pages that are not there.
    Missing = 1,
    /// Writes to protected pages.
    Write = 2,
    /// Pages that are there, but not in the page table.
    Minor = 4,
    /// Reads and writes of protected pages (from Linux 7.3 on).
    Access = 8,
}

/// An open userfaultfd.
pub struct Userfault(File);

impl Userfault {
    /// Opens one that can do what these features say.
    pub fn open(features: u64) -> Result<Self> {
        // SAFETY: A system call without pointers; the descriptor is new and ours.
        let file = unsafe {
            let descriptor = libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC);
            if descriptor < 0 {
                return Err(io::Error::last_os_error()).context("no userfaultfd");
            }
            File::from_raw_fd(i32::try_from(descriptor)?)
        };
        let this = Self(file);
        this.call(UFFDIO_API, [API, features, 0])?;
        Ok(this)
    }

    /// Makes a call on a structure of so many words.
    fn call<const N: usize>(&self, command: u64, mut words: [u64; N]) -> Result<()> {
        // The size is part of the command's number.
        ensure!(
            command >> 16 & 0x3fff == 8 * N as u64,
            "a structure of another size"
        );
        // SAFETY: The structure has the command's size and is ours for the time of the call.
        if unsafe { libc::ioctl(self.0.as_raw_fd(), command, words.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error())
                .with_context(|| format!("userfaultfd call {command:#x}"));
        }
        Ok(())
    }

    /// Has the faults of a range reported here.
    pub fn register(&self, range: &Range<usize>, mode: Mode) -> Result<()> {
        let [start, length] = words(range);
        self.call(UFFDIO_REGISTER, [start, length, mode as u64, 0])
    }

    /// Protects a range from what it is registered for.
    pub fn protect(&self, range: &Range<usize>, mode: Mode) -> Result<()> {
        let [start, length] = words(range);
        let command = match mode {
            Mode::Write => UFFDIO_WRITEPROTECT,
            Mode::Access => UFFDIO_RWPROTECT,
            Mode::Missing | Mode::Minor => bail!("nothing is protected by being missing"),
        };
        self.call(command, [start, length, 1])
    }

    /// Marks the content of a range as lost.
    pub fn poison(&self, range: &Range<usize>) -> Result<()> {
        let [start, length] = words(range);
        self.call(UFFDIO_POISON, [start, length, 0, 0])
    }

    /// Handles so many faults, each of a page in whatever order.
    pub fn handle(&self, mode: Mode, pages: usize) -> Result<()> {
        // Written, so that it is in memory and the kernel needs no fault of this thread to copy it.
        let page = vec![7u8; page_size()];
        for _ in 0..pages {
            let start = self.next_fault()?;
            let length = page_size() as u64;
            match mode {
                Mode::Missing => {
                    self.call(UFFDIO_COPY, [start, page.as_ptr() as u64, length, 0, 0])?;
                }
                Mode::Write => self.call(UFFDIO_WRITEPROTECT, [start, length, 0])?,
                Mode::Access => self.call(UFFDIO_RWPROTECT, [start, length, 0])?,
                Mode::Minor => self.call(UFFDIO_CONTINUE, [start, length, 0, 0])?,
            }
        }
        Ok(())
    }

    /// Waits for a fault. Gives the address of its page.
    fn next_fault(&self) -> Result<u64> {
        let mut message = [0u64; MESSAGE_WORDS];
        // SAFETY: The words as bytes: any value of them is one of the words.
        let bytes = unsafe {
            std::slice::from_raw_parts_mut(message.as_mut_ptr().cast::<u8>(), size_of_val(&message))
        };
        (&self.0)
            .read_exact(bytes)
            .context("cannot read userfaultfd")?;
        let [event, ..] = message[0].to_ne_bytes();
        if event != EVENT_PAGEFAULT {
            bail!("userfaultfd tells of event {event:#x}");
        }
        Ok(message[2] & !(page_size() as u64 - 1))
    }
}

/// `struct uffdio_range`.
fn words(range: &Range<usize>) -> [u64; 2] {
    [range.start as u64, range.len() as u64]
}
