// SPDX-License-Identifier: GPL-2.0-only

//! `storm`: several threads that fork children, start threads and give memory back, as a seed decides.

use std::{num::NonZeroUsize, panic::resume_unwind, process::id, thread};

use anyhow::{Context, Result};
use clap::Args;

use crate::{
    memory::{self, Access, Region},
    truth::Truth,
};

#[derive(Args, Clone)]
pub struct Options {
    /// Threads that act at the same time
    #[arg(long, default_value = "4")]
    threads: NonZeroUsize,
    /// Actions of each
    #[arg(long, default_value = "100")]
    rounds: usize,
    /// Most pages touched by an action
    #[arg(long, default_value = "16")]
    pages: NonZeroUsize,
    /// What decides on the actions
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Writes the first pages of a region in order.
fn write_pages(region: &Region, pages: usize) {
    for page in 0..pages {
        region.touch(page, Access::Write);
    }
}

fn tell(truth: &mut Truth, pid: u32, tid: u32, region: &Region, pages: usize) {
    for page in 0..pages {
        truth.fault_of(
            (pid, tid),
            region.address(page),
            Access::Write,
            "user",
            "zero-fill",
        );
    }
}

/// What one thread does.
fn act(options: &Options, thread: usize, mut truth: Truth) -> Result<Truth> {
    let mut random = fastrand::Rng::with_seed(options.seed.wrapping_add(thread as u64));
    // Touched by children alone, each in its own copy of the address space.
    let children = Region::anonymous(options.pages)?;
    // Touched by this thread again and again.
    let own = Region::anonymous(options.pages)?;
    own.keep_from_children().context("cannot advise")?;
    truth.region(id(), &own.range());
    for _ in 0..options.rounds {
        let pages = random.usize(1..=options.pages.get());
        match random.u8(0..3) {
            0 => {
                // SAFETY: The child writes memory and nothing else.
                let child = unsafe {
                    memory::fork(|| {
                        write_pages(&children, pages);
                        0
                    })
                }?;
                memory::wait_for(child)?;
                truth.region(child, &children.range());
                tell(&mut truth, child, child, &children, pages);
            }
            1 => {
                let fresh = Region::anonymous(options.pages)?;
                fresh.keep_from_children().context("cannot advise")?;
                let work = move || {
                    write_pages(&fresh, pages);
                    (fresh, memory::thread_id())
                };
                let (fresh, tid) = thread::Builder::new()
                    .spawn(work)
                    .context("cannot start a thread")?
                    .join()
                    .unwrap_or_else(|panic| resume_unwind(panic));
                truth.region(id(), &fresh.range());
                tell(&mut truth, id(), tid, &fresh, pages);
            }
            _ => {
                write_pages(&own, pages);
                own.discard().context("cannot give memory back")?;
                tell(&mut truth, id(), memory::thread_id(), &own, pages);
            }
        }
    }
    Ok(truth)
}

pub fn run(options: &Options, mut truth: Truth) -> Result<()> {
    thread::scope(|scope| -> Result<()> {
        let threads: Vec<_> = (0..options.threads.get())
            .map(|thread| {
                let truth = truth.another();
                scope.spawn(move || act(options, thread, truth))
            })
            .collect();
        for thread in threads {
            truth.extend(thread.join().unwrap_or_else(|panic| resume_unwind(panic))?);
        }
        Ok(())
    })?;
    truth.write()
}
