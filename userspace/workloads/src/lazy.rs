// SPDX-License-Identifier: GPL-2.0-only

//! `lazy`: pages that another thread fills while the fault waits (userfaultfd): when the fault is tried
//! again, the page is there.

use std::{
    fs::File,
    io::{self, Read},
    num::NonZeroUsize,
    os::fd::{AsRawFd, FromRawFd},
    thread,
};

use anyhow::{bail, ensure, Context, Result};
use clap::Args;

use crate::{
    memory::{page_size, Access, Region},
    truth::Truth,
};

#[derive(Args, Clone)]
pub struct Options {
    /// Pages
    #[arg(long, default_value = "100")]
    pages: NonZeroUsize,
}

// Of linux/userfaultfd.h.
const UFFD_API: u64 = 0xaa;
const UFFDIO_API: u64 = 0xc018_aa3f;
const UFFDIO_REGISTER: u64 = 0xc020_aa00;
const UFFDIO_COPY: u64 = 0xc028_aa03;
const REGISTER_MODE_MISSING: u64 = 1;
const EVENT_PAGEFAULT: u8 = 0x12;
/// Words of a message; the first byte tells what it is of, the third word is the address.
const MESSAGE_WORDS: usize = 4;

/// Makes a call on a structure of so many words.
fn call<const N: usize>(uffd: &File, command: u64, mut words: [u64; N]) -> Result<()> {
    // The size is part of the command's number.
    ensure!(
        command >> 16 & 0x3fff == 8 * N as u64,
        "a structure of another size"
    );
    // SAFETY: The structure has the command's size and is ours for the time of the call.
    if unsafe { libc::ioctl(uffd.as_raw_fd(), command, words.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error())
            .with_context(|| format!("userfaultfd call {command:#x}"));
    }
    Ok(())
}

/// Fills so many pages, each when it is asked for, in whatever order.
fn fill(mut uffd: &File, pages: usize) -> Result<()> {
    // Written, so that it is in memory and the kernel needs no fault of this thread to copy it.
    let page = vec![7u8; page_size()];
    for _ in 0..pages {
        let mut message = [0u64; MESSAGE_WORDS];
        // SAFETY: The words as bytes: any value of them is one of the words.
        let bytes = unsafe {
            std::slice::from_raw_parts_mut(message.as_mut_ptr().cast::<u8>(), size_of_val(&message))
        };
        uffd.read_exact(bytes).context("cannot read userfaultfd")?;
        let [event, ..] = message[0].to_ne_bytes();
        if event != EVENT_PAGEFAULT {
            bail!("userfaultfd tells of event {event:#x}");
        }
        let start = message[2] & !(page_size() as u64 - 1);
        let length = page_size() as u64;
        call(
            uffd,
            UFFDIO_COPY,
            [start, page.as_ptr() as u64, length, 0, 0],
        )?;
    }
    Ok(())
}

pub fn run(options: &Options, mut truth: Truth) -> Result<()> {
    truth.text()?;
    // SAFETY: A system call without pointers; the descriptor is new and ours.
    let uffd = unsafe {
        let descriptor = libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC);
        if descriptor < 0 {
            return Err(io::Error::last_os_error()).context("no userfaultfd");
        }
        File::from_raw_fd(i32::try_from(descriptor)?)
    };
    call(&uffd, UFFDIO_API, [UFFD_API, 0, 0])?;
    let region = Region::anonymous(options.pages)?;
    let range = region.range();
    call(
        &uffd,
        UFFDIO_REGISTER,
        [
            range.start as u64,
            range.len() as u64,
            REGISTER_MODE_MISSING,
            0,
        ],
    )?;
    truth.region(std::process::id(), &range);
    thread::scope(|scope| {
        let filler = scope.spawn(|| fill(&uffd, options.pages.get()));
        for page in 0..region.pages() {
            region.touch(page, Access::Read);
        }
        filler.join().expect("it panicked")
    })?;
    for page in 0..region.pages() {
        truth.fault(
            region.address(page),
            Access::Read,
            "present,user",
            "spurious",
        );
    }
    truth.write()
}
