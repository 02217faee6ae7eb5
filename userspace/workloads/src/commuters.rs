// SPDX-License-Identifier: GPL-2.0-only

//! `commuters`: processes that move into a control group and out of it, and touch memory on both sides.

use std::{
    fs::OpenOptions,
    io::Write as _,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::id,
};

use anyhow::{Context, Result};
use clap::Args;

use crate::{
    memory::{self, Access, Region},
    truth::Truth,
};

#[derive(Args, Clone)]
pub struct Options {
    /// Children that this process makes
    #[arg(long, default_value = "1000")]
    count: NonZeroUsize,
    /// Children that live at the same time
    #[arg(long, default_value = "8")]
    parallel: NonZeroUsize,
    /// Pages that each touches on each stay
    #[arg(long, default_value = "5")]
    pages: NonZeroUsize,
    /// The folder of the control group: what is touched there is the truth
    #[arg(long)]
    inside: PathBuf,
    /// The folder of another one
    #[arg(long)]
    outside: PathBuf,
}

/// Moves this process.
fn move_to(folder: &Path) -> Result<()> {
    // 0 is whoever writes it: `__cgroup_procs_write` of `kernel/cgroup/cgroup.c`.
    OpenOptions::new()
        .write(true)
        .open(folder.join("cgroup.procs"))
        .and_then(|mut file| file.write_all(b"0"))
        .with_context(|| format!("cannot move to {}", folder.display()))
}

/// Out, in, out, in, and every other one out again.
fn commute(options: &Options, number: usize, mut truth: Truth) -> Result<()> {
    let stays = [false, true, false, true, number % 2 == 0];
    let pages = NonZeroUsize::new(options.pages.get() * stays.len()).context("too few pages")?;
    let region = Region::anonymous(pages)?;
    truth.region(id(), &region.range());
    for (stay, inside) in stays.into_iter().enumerate() {
        move_to(if inside {
            &options.inside
        } else {
            &options.outside
        })?;
        let first = stay * options.pages.get();
        for page in first..first + options.pages.get() {
            region.touch(page, Access::Write);
        }
        if inside {
            for page in first..first + options.pages.get() {
                truth.fault(region.address(page), Access::Write, "user", "zero-fill");
            }
        }
    }
    truth.write()
}

pub fn run(options: &Options, truth: Truth) -> Result<()> {
    move_to(&options.outside)?;
    let numbers: Vec<usize> = (0..options.count.get()).collect();
    for batch in numbers.chunks(options.parallel.get()) {
        let children: Vec<u32> = batch
            .iter()
            .map(|&number| {
                // SAFETY: The process has one thread.
                unsafe {
                    memory::fork(|| match commute(options, number, truth.another()) {
                        Ok(()) => 0,
                        Err(error) => {
                            eprintln!("ft-workload: child: {error:#}");
                            1
                        }
                    })
                }
            })
            .collect::<Result<_>>()?;
        for child in children {
            memory::wait_for(child)?;
        }
    }
    Ok(())
}
