// SPDX-License-Identifier: GPL-2.0-only

//! `turmoil`: processes whose threads fork, start threads, execute this program and are killed, as a seed
//! decides. Which faults there are is not known by construction; how many each thread had, the kernel says.

use std::{
    num::NonZeroUsize,
    os::unix::process::CommandExt,
    process::{exit, Command},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Args;

use crate::memory::{self, Access, Region};

#[derive(Args, Clone)]
pub struct Options {
    /// Threads of each process
    #[arg(long, default_value = "4")]
    threads: NonZeroUsize,
    /// Actions of each thread
    #[arg(long, default_value = "10")]
    rounds: usize,
    /// Generations of processes below this one
    #[arg(long, default_value = "2")]
    depth: u64,
    /// What decides on the actions
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Writes some fresh pages.
fn touch(random: &mut fastrand::Rng) -> Result<()> {
    let pages = NonZeroUsize::new(random.usize(1..=16)).context("at least one page")?;
    let region = Region::anonymous(pages)?;
    for page in 0..region.pages() {
        region.touch(page, Access::Write);
    }
    region.discard().context("cannot give memory back")
}

/// This program with a generation less.
fn next(options: &Options, seed: u64) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command
        .arg("turmoil")
        .args(["--threads", &options.threads.to_string()])
        .args(["--rounds", &options.rounds.to_string()])
        .args(["--depth", &options.depth.saturating_sub(1).to_string()])
        .args(["--seed", &seed.to_string()]);
    command
}

/// What one thread does. The last process of a line of generations only touches memory.
fn act(options: &Options, thread: u64) -> Result<()> {
    let mut random = fastrand::Rng::with_seed(options.seed.wrapping_mul(1000).wrapping_add(thread));
    for _ in 0..options.rounds {
        let action = if options.depth == 0 {
            0
        } else {
            random.u8(0..8)
        };
        match action {
            1 => {
                // Another thread; half of them are not waited for, and end when they end.
                let mut random = fastrand::Rng::with_seed(random.u64(..));
                let other = thread::Builder::new()
                    .spawn(move || touch(&mut random))
                    .context("cannot start a thread")?;
                if action == 1 && options.seed % 2 == 0 {
                    other.join().expect("it panicked")?;
                }
            }
            2 | 3 => {
                // A child with threads of its own; when killed, in the midst of anything.
                let mut child = next(options, random.u64(..1_000_000))
                    .spawn()
                    .context("cannot start this program again")?;
                if action == 3 {
                    thread::sleep(Duration::from_micros(random.u64(..20_000)));
                    child.kill().context("cannot kill a child")?;
                }
                child.wait().context("cannot wait for a child")?;
            }
            4 => {
                // A child by fork alone.
                // SAFETY: The child writes memory mapped for it and makes system calls, nothing else.
                let child = unsafe {
                    let mut random = fastrand::Rng::with_seed(random.u64(..));
                    memory::fork(|| i32::from(touch(&mut random).is_err()))
                }?;
                memory::wait_for(child)?;
            }
            _ => touch(&mut random)?,
        }
    }
    // The whole process ends or goes on as another program, whatever the other threads are doing.
    match random.u8(0..8) {
        0 => exit(0),
        1 if options.depth > 0 => {
            Err(next(options, random.u64(..1_000_000)).exec()).context("cannot execute")
        }
        _ => Ok(()),
    }
}

pub fn run(options: &Options) -> Result<()> {
    let threads: Vec<_> = (0..options.threads.get() as u64)
        .map(|thread| {
            let options = options.clone();
            thread::Builder::new()
                .spawn(move || act(&options, thread))
                .context("cannot start a thread")
        })
        .collect::<Result<_>>()?;
    for thread in threads {
        thread.join().expect("it panicked")?;
    }
    Ok(())
}
