// SPDX-License-Identifier: GPL-2.0-only

//! `pressure`: children that write more memory, again and again, than they may have. Which pages are
//! swapped out when is the kernel's choice; how many faults each process had, it says.

use std::num::NonZeroUsize;

use anyhow::Result;
use clap::Args;

use crate::memory::{self, Access, Region};

#[derive(Args, Clone)]
pub struct Options {
    /// Children, all at the same time
    #[arg(long, default_value = "2")]
    processes: NonZeroUsize,
    /// Pages of each
    #[arg(long, default_value = "4096")]
    pages: NonZeroUsize,
    /// How often each writes them
    #[arg(long, default_value = "3")]
    passes: NonZeroUsize,
}

pub fn run(options: &Options) -> Result<()> {
    let region = Region::anonymous(options.pages)?;
    let body = || {
        for _ in 0..options.passes.get() {
            for page in 0..region.pages() {
                region.touch(page, Access::Write);
            }
        }
        0
    };
    let children = (0..options.processes.get())
        // SAFETY: The process has one thread.
        .map(|_| unsafe { memory::fork(body) })
        .collect::<Result<Vec<_>>>()?;
    children.into_iter().try_for_each(memory::wait_for)
}
