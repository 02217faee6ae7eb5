// SPDX-License-Identifier: GPL-2.0-only

//! `touch`: pages of fresh memory in a known order, each thread in a region of its own.

use std::{num::NonZeroUsize, panic::resume_unwind, sync::RwLock, thread};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use crate::{
    memory::{Access, Region},
    truth::Truth,
};

#[derive(Args, Clone)]
pub struct Options {
    /// Pages that each thread touches
    #[arg(long, default_value = "100")]
    pages: NonZeroUsize,
    /// Order in which a thread touches its pages
    #[arg(long, value_enum, default_value_t = Order::Forward)]
    order: Order,
    /// Seed of the random order
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Threads
    #[arg(long, default_value = "1")]
    threads: NonZeroUsize,
    /// What is done to each page
    #[arg(long, value_enum, default_value_t = Pattern::Write)]
    access: Pattern,
}

/// An order of pages.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Order {
    /// Ascending addresses
    Forward,
    /// Descending addresses
    Backward,
    /// Shuffled by the seed
    Random,
}

/// What is done to each page.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Pattern {
    /// One load
    Read,
    /// One store
    Write,
    /// One call
    Exec,
    /// A load and then, after all loads, a store: it finds the page present, but read-only
    ReadWrite,
}

/// The pages in the order in which they are touched.
fn sequence(options: &Options, thread: usize) -> Vec<usize> {
    let mut pages: Vec<usize> = (0..options.pages.get()).collect();
    match options.order {
        Order::Forward => {}
        Order::Backward => pages.reverse(),
        Order::Random => {
            fastrand::Rng::with_seed(options.seed.wrapping_add(thread as u64)).shuffle(&mut pages);
        }
    }
    pages
}

fn touch(region: &Region, pages: &[usize], pattern: Pattern, truth: &mut Truth) {
    let passes: &[(Access, &str, &str)] = match pattern {
        Pattern::Read => &[(Access::Read, "user", "zero-page")],
        Pattern::Write => &[(Access::Write, "user", "zero-fill")],
        Pattern::Exec => &[(Access::Exec, "file,user", "file-exec")],
        Pattern::ReadWrite => &[
            (Access::Read, "user", "zero-page"),
            (Access::Write, "present,user", "copy-on-write"),
        ],
    };
    for &(access, _, _) in passes {
        for &page in pages {
            region.touch(page, access);
        }
    }
    truth.region(std::process::id(), &region.range());
    for &(access, flags, kind) in passes {
        for &page in pages {
            truth.fault(region.address(page), access, flags, kind);
        }
    }
}

pub fn run(options: &Options, mut truth: Truth) -> Result<()> {
    truth.text()?;
    let new_region = || match options.access {
        Pattern::Exec => Region::code(options.pages),
        _ => Region::anonymous(options.pages),
    };
    let threads = options.threads.get();
    if threads == 1 {
        touch(
            &new_region()?,
            &sequence(options, 0),
            options.access,
            &mut truth,
        );
        return truth.write();
    }
    // The threads begin together, when the writer's lock is given up.
    let gate = RwLock::new(());
    thread::scope(|scope| -> Result<()> {
        let closed = gate.write();
        let mut running = Vec::new();
        for thread in 0..threads {
            let region = new_region()?;
            let pages = sequence(options, thread);
            let mut truth = truth.another();
            let gate = &gate;
            let work = move || {
                drop(gate.read());
                touch(&region, &pages, options.access, &mut truth);
                truth
            };
            running.push(
                thread::Builder::new()
                    .spawn_scoped(scope, work)
                    .context("cannot start a thread")?,
            );
        }
        drop(closed);
        for thread in running {
            truth.extend(thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        Ok(())
    })?;
    truth.write()
}
