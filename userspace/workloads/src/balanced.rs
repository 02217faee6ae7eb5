// SPDX-License-Identifier: GPL-2.0-only

//! `balanced`: memory that two threads read for a while after it was written, so that the kernel's NUMA
//! balancing looks who uses it; or that one reads while the other moves it from node to node (needs two nodes).

use std::{
    fs,
    num::NonZeroUsize,
    thread,
    time::{Duration, Instant},
};

use anyhow::{ensure, Context, Result};
use clap::Args;

use crate::{
    memory::{Access, Region},
    truth::Truth,
};

#[derive(Args, Clone)]
pub struct Options {
    /// Pages
    #[arg(long, default_value = "200")]
    pages: NonZeroUsize,
    /// The pages are huge ones, that the kernel made by itself
    #[arg(long)]
    huge: bool,
    /// The second thread does not read: it moves the pages to the one node and to the other
    #[arg(long)]
    moved: bool,
    /// For so long
    #[arg(long, default_value = "3", value_name = "SECONDS")]
    seconds: u64,
}

pub fn run(options: &Options, mut truth: Truth) -> Result<()> {
    let region = if options.huge {
        Region::transparent_huge(options.pages)?
    } else {
        Region::anonymous(options.pages)?
    };
    truth.region(std::process::id(), &region.range());
    for page in 0..region.pages() {
        region.touch(page, Access::Write);
        truth.fault(region.address(page), Access::Write, "user", "zero-fill");
    }
    if options.huge {
        let rollup = fs::read_to_string("/proc/self/smaps_rollup")
            .context("cannot read /proc/self/smaps_rollup")?;
        let kib: usize = rollup
            .lines()
            .find_map(|line| line.strip_prefix("AnonHugePages:")?.strip_suffix("kB"))
            .and_then(|text| text.trim().parse().ok())
            .context("smaps_rollup has another form")?;
        ensure!(
            kib >= options.pages.get() * 2048,
            "{kib} KiB in huge pages, not {}",
            options.pages.get() * 2048
        );
    }
    let end = Instant::now() + Duration::from_secs(options.seconds);
    let read = || {
        while Instant::now() < end {
            for page in 0..region.pages() {
                region.touch(page, Access::Read);
            }
        }
    };
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            if options.moved {
                move_until(&region, end)
            } else {
                read();
                Ok(())
            }
        });
        read();
        other.join().expect("the thread does not panic")
    })?;
    truth.write()
}

/// `MPOL_MF_MOVE` of `include/uapi/linux/mempolicy.h`: pages that are this process's alone.
const MOVE: libc::c_int = 1 << 1;

/// Moves all pages to node 0 and to node 1 in turn: `move_pages(2)`.
fn move_until(region: &Region, end: Instant) -> Result<()> {
    let pages: Vec<usize> = (0..region.pages())
        .map(|page| region.address(page))
        .collect();
    let mut status = vec![0; pages.len()];
    for node in [1, 0].into_iter().cycle() {
        if Instant::now() >= end {
            break;
        }
        let nodes: Vec<libc::c_int> = vec![node; pages.len()];
        // SAFETY: Three arrays of as many elements as it says; the pages' content stays.
        let result = unsafe {
            libc::syscall(
                libc::SYS_move_pages,
                0,
                pages.len(),
                pages.as_ptr(),
                nodes.as_ptr(),
                status.as_mut_ptr(),
                MOVE,
            )
        };
        // Above 0: so many were in use just then.
        ensure!(
            result >= 0,
            "move_pages: {}",
            std::io::Error::last_os_error()
        );
    }
    Ok(())
}
