// SPDX-License-Identifier: GPL-2.0-only

//! `cold`: a mapped file none of whose pages is in memory: each fault waits for the disk.

use std::{
    fs::{self, File},
    io,
    num::NonZeroUsize,
    path::PathBuf,
};

use anyhow::{bail, Context, Result};
use clap::Args;
use rustix::mm::{MapFlags, ProtFlags};

use crate::{
    memory::{Access, Region},
    truth::Truth,
};

#[derive(Args, Clone)]
pub struct Options {
    /// A file of so many pages that nobody else has mapped
    #[arg(long)]
    path: PathBuf,
    /// Pages of its beginning that are mapped
    #[arg(long, default_value = "100")]
    pages: NonZeroUsize,
    /// Which of them are read: each N-th
    #[arg(long, default_value = "1")]
    every: NonZeroUsize,
}

/// Drops caches until no page of the mapping is in memory: those on their way to the list of the kernel
/// that is dropped are not dropped.
fn drop_caches(region: &Region) -> Result<()> {
    const TRIES: usize = 100;
    for _ in 0..TRIES {
        // A page that is being written stays.
        rustix::fs::sync();
        fs::write("/proc/sys/vm/drop_caches", "1").context("cannot drop caches")?;
        let mut left = 0;
        for page in 0..region.pages() {
            let mut resident = 0u8;
            // SAFETY: One page of the mapping, and a byte of ours for it.
            let result = unsafe {
                libc::mincore(
                    region.address(page) as *mut _,
                    1,
                    (&raw mut resident).cast(),
                )
            };
            if result != 0 {
                return Err(io::Error::last_os_error()).context("cannot look at the page cache");
            }
            left += usize::from(resident & 1);
        }
        if left == 0 {
            return Ok(());
        }
    }
    bail!("pages of the file stay in memory: is it in use, or in a file system without a disk?")
}

pub fn run(options: &Options, mut truth: Truth) -> Result<()> {
    truth.text()?;
    let file = File::open(&options.path)
        .with_context(|| format!("cannot open {}", options.path.display()))?;
    let region = Region::file(&file, options.pages, ProtFlags::READ, MapFlags::PRIVATE)?;
    // No page is read before it is asked for.
    region
        .advise(libc::MADV_RANDOM)
        .context("cannot turn reading ahead off")?;
    drop_caches(&region)?;
    truth.region(std::process::id(), &region.range());
    let pages = || (0..region.pages()).step_by(options.every.get());
    for page in pages() {
        region.touch(page, Access::Read);
    }
    for page in pages() {
        truth.fault(region.address(page), Access::Read, "file,user", "file-read");
    }
    truth.write()
}
