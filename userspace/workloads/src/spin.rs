// SPDX-License-Identifier: GPL-2.0-only

//! `spin`: page faults without end.

use std::{num::NonZeroUsize, panic::resume_unwind, thread};

use anyhow::{Context, Result};
use clap::Args;

use crate::memory::{self, Access, Region};

#[derive(Args, Clone)]
pub struct Options {
    /// Threads
    #[arg(long, default_value = "1")]
    threads: NonZeroUsize,
    /// Pages that each thread touches before it gives them back
    #[arg(long, default_value = "64")]
    pages: NonZeroUsize,
    /// Each thread also forks a child in every turn
    #[arg(long)]
    fork: bool,
}

/// One thread's work. It returns only on an error.
fn spin(region: &Region, fork: bool) -> Result<()> {
    loop {
        for page in 0..region.pages() {
            region.touch(page, Access::Write);
        }
        region.discard().context("cannot give memory back")?;
        if fork {
            // SAFETY: The child writes memory and nothing else.
            let child = unsafe {
                memory::fork(|| {
                    region.touch(0, Access::Write);
                    0
                })
            }?;
            memory::wait_for(child)?;
        }
    }
}

pub fn run(options: &Options) -> Result<()> {
    let threads: Vec<_> = (0..options.threads.get())
        .map(|_| {
            let region = Region::anonymous(options.pages)?;
            let fork = options.fork;
            thread::Builder::new()
                .spawn(move || spin(&region, fork))
                .context("cannot start a thread")
        })
        .collect::<Result<_>>()?;
    for thread in threads {
        thread.join().unwrap_or_else(|panic| resume_unwind(panic))?;
    }
    Ok(())
}
