// SPDX-License-Identifier: GPL-2.0-only

//! `gup`, `hugetlb`, `swap`: faults that depend on what the kernel does with the memory.

use std::{
    fs::File,
    io::{self, Read},
    num::NonZeroUsize,
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    process::id,
};

use anyhow::{bail, ensure, Context, Result};
use clap::Args;

use crate::{
    memory::{self, page_size, Access, Region},
    truth::Truth,
};

#[derive(Args, Clone)]
pub struct GupOptions {
    /// Pages of each kind
    #[arg(long, default_value = "100")]
    pages: NonZeroUsize,
    /// Also read from and write to this disk without the page cache (O_DIRECT); it is written over
    #[arg(long, value_name = "DEVICE")]
    direct: Option<PathBuf>,
}

/// Has a disk read into fresh memory and written from fresh memory, which needs its pages.
fn direct(disk: &Path, pages: NonZeroUsize, truth: &mut Truth) -> Result<()> {
    let file = File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(disk)
        .with_context(|| format!("cannot open {}", disk.display()))?;
    for (access, kind) in [(Access::Write, "zero-fill"), (Access::Read, "zero-page")] {
        let region = Region::anonymous(pages)?;
        let (start, length) = (region.range().start, region.range().len());
        // SAFETY: The range is the region's mapping, for the time of the calls; nothing is built on what
        // it holds.
        let moved = unsafe {
            match access {
                Access::Write => libc::pread(file.as_raw_fd(), start as *mut _, length, 0),
                _ => libc::pwrite(file.as_raw_fd(), start as *const _, length, 0),
            }
        };
        if moved < 0 {
            return Err(io::Error::last_os_error())
                .with_context(|| format!("cannot access {} directly", disk.display()));
        }
        ensure!(
            moved.unsigned_abs() == length,
            "{moved} of {length} bytes: {} is too small",
            disk.display()
        );
        tell(truth, &region, access, "gup", kind);
    }
    Ok(())
}

/// Tells one fault of this process for each page.
fn tell(truth: &mut Truth, region: &Region, access: Access, flags: &str, kind: &str) {
    truth.region(id(), &region.range());
    for page in 0..region.pages() {
        truth.fault(region.address(page), access, flags, kind);
    }
}

/// A direction of `process_vm_readv` and `process_vm_writev`.
#[derive(Clone, Copy)]
enum Transfer {
    /// From the other process
    Read,
    /// To the other process
    Write,
}

/// Copies between `local` and another process's memory at the addresses of `region`.
fn transfer(pid: u32, region: &Region, local: &mut [u8], direction: Transfer) -> Result<()> {
    let range = region.range();
    ensure!(local.len() == range.len(), "the buffer has another length");
    let mine = libc::iovec {
        iov_base: local.as_mut_ptr().cast(),
        iov_len: local.len(),
    };
    let theirs = libc::iovec {
        iov_base: range.start as *mut _,
        iov_len: range.len(),
    };
    let pid = pid as libc::pid_t;
    // SAFETY: One vector on each side. `mine` is a buffer of ours that both calls may use for the time
    // of the call; the addresses of `theirs` are looked up in the other process.
    let copied = unsafe {
        match direction {
            Transfer::Read => {
                libc::process_vm_readv(pid, &raw const mine, 1, &raw const theirs, 1, 0)
            }
            Transfer::Write => {
                libc::process_vm_writev(pid, &raw const mine, 1, &raw const theirs, 1, 0)
            }
        }
    };
    if copied < 0 {
        return Err(io::Error::last_os_error()).context("cannot copy from process to process");
    }
    ensure!(
        copied.unsigned_abs() == range.len(),
        "copied {copied} of {} bytes",
        range.len()
    );
    Ok(())
}

/// Lets the kernel touch fresh memory in each of its ways.
pub fn gup(options: &GupOptions, mut truth: Truth) -> Result<()> {
    truth.text()?;
    let pages = options.pages;

    // A system call stores to memory: the kernel faults.
    let region = Region::anonymous(pages)?;
    let mut zero = File::open("/dev/zero").context("cannot open /dev/zero")?;
    // SAFETY: The range is the region's mapping; a `u8` has no invalid values, and nobody else accesses
    // the memory while the reference lives.
    let buffer = unsafe {
        std::slice::from_raw_parts_mut(region.range().start as *mut u8, region.range().len())
    };
    zero.read_exact(buffer).context("cannot read /dev/zero")?;
    tell(&mut truth, &region, Access::Write, "-", "zero-fill");

    // The kernel is asked for pages.
    let region = Region::anonymous(pages)?;
    region
        .advise(libc::MADV_POPULATE_READ)
        .context("cannot populate for reading")?;
    tell(&mut truth, &region, Access::Read, "gup", "zero-page");
    let region = Region::anonymous(pages)?;
    region
        .advise(libc::MADV_POPULATE_WRITE)
        .context("cannot populate for writing")?;
    tell(&mut truth, &region, Access::Write, "gup", "zero-fill");

    if let Some(disk) = &options.direct {
        direct(disk, pages, &mut truth)?;
    }

    // The kernel is asked for pages of another process: some that are fresh, and some that are shared
    // with it since the fork, which a pin must not take as they are.
    let fresh = Region::anonymous(pages)?;
    let shared = Region::anonymous(pages)?;
    for page in 0..shared.pages() {
        shared.touch(page, Access::Write);
    }
    tell(&mut truth, &shared, Access::Write, "user", "zero-fill");
    let (until_closed, keep_open) = rustix::pipe::pipe().context("cannot make a pipe")?;
    // SAFETY: The process has one thread.
    let child = unsafe {
        memory::fork(|| {
            // The child's own copy of the other end, or the pipe would never be closed.
            rustix::io::close(keep_open.as_raw_fd());
            match rustix::io::read(&until_closed, &mut [0]) {
                Ok(0) => 0,
                _ => 1,
            }
        })
    }?;
    let mut local = vec![1; fresh.range().len()];
    transfer(child, &fresh, &mut local, Transfer::Write)?;
    transfer(child, &shared, &mut local, Transfer::Read)?;
    drop(keep_open);
    memory::wait_for(child)?;
    tell(&mut truth, &fresh, Access::Write, "remote,gup", "zero-fill");
    for page in 0..shared.pages() {
        let address = shared.address(page);
        truth.fault(
            address,
            Access::Read,
            "present,remote,gup,unshare",
            "copy-on-write",
        );
    }
    truth.write()
}

#[derive(Args, Clone)]
pub struct HugetlbOptions {
    /// Huge pages of 2 MiB
    #[arg(long, default_value = "4")]
    pages: NonZeroUsize,
}

pub fn hugetlb(options: &HugetlbOptions, mut truth: Truth) -> Result<()> {
    truth.text()?;
    let region = Region::huge(options.pages)?;
    for page in 0..region.pages() {
        region.touch(page, Access::Write);
    }
    tell(
        &mut truth,
        &region,
        Access::Write,
        "file,user,hugetlb",
        "hugetlb",
    );
    truth.write()
}

#[derive(Args, Clone)]
pub struct SwapOptions {
    /// Pages
    #[arg(long, default_value = "100")]
    pages: NonZeroUsize,
}

/// Bit of an entry of `/proc/self/pagemap`: the page is swapped out.
const SWAPPED: u64 = 1 << 62;

/// Of how many pages the kernel says that they are swapped out.
fn swapped(region: &Region) -> Result<usize> {
    let pagemap = File::open("/proc/self/pagemap").context("cannot open /proc/self/pagemap")?;
    let mut count = 0;
    for page in 0..region.pages() {
        let mut entry = [0; 8];
        pagemap
            .read_exact_at(&mut entry, (region.address(page) / page_size() * 8) as u64)
            .context("cannot read /proc/self/pagemap")?;
        count += usize::from(u64::from_ne_bytes(entry) & SWAPPED != 0);
    }
    Ok(count)
}

/// Writes pages and has them swapped out; what follows is known only when all of them are.
pub fn swap(options: &SwapOptions, mut truth: Truth) -> Result<()> {
    truth.text()?;
    let region = Region::anonymous(options.pages)?;
    for page in 0..region.pages() {
        region.touch(page, Access::Write);
    }
    tell(&mut truth, &region, Access::Write, "user", "zero-fill");
    // Pages just written may still wait in a CPU's batch, where reclaim does not find them.
    const TRIES: usize = 100;
    for attempt in 0.. {
        region
            .advise(libc::MADV_PAGEOUT)
            .context("cannot have the pages swapped out")?;
        let out = swapped(&region)?;
        if out == region.pages() {
            break;
        }
        if attempt == TRIES {
            bail!(
                "only {out} of {} pages were swapped out (is there swap in /proc/swaps?)",
                region.pages()
            );
        }
    }
    for page in 0..region.pages() {
        region.touch(page, Access::Read);
    }
    for page in 0..region.pages() {
        truth.fault(
            region.address(page),
            Access::Read,
            "swap-entry,user",
            "swap-in",
        );
    }
    truth.write()
}
