// SPDX-License-Identifier: GPL-2.0-only

//! `turmoil`: processes whose threads fork, start threads, execute this program, exit and kill each other,
//! as a seed decides. Which faults there are is not known by construction; how many each thread had, the
//! kernel says.

use std::{
    num::NonZeroUsize,
    os::{fd::AsRawFd, unix::process::CommandExt},
    process::{exit, Command},
    ptr,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use anyhow::{ensure, Context, Result};
use clap::Args;

use crate::memory::{self, page_size, Access, Region};

#[derive(Args, Clone)]
pub struct Options {
    /// Threads of the first process; the others have at most 8
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
    /// Descriptor of the list of processes that may be killed; without one this is the first process
    #[arg(long, hide = true)]
    victims: Option<i32>,
    /// Nobody kills this process
    #[arg(long, hide = true)]
    spared: bool,
}

/// The most threads of processes but the first.
const THREADS_BELOW: usize = 8;

/// The processes that may be killed: all but the first, which all of them share a page with.
#[derive(Clone, Copy)]
struct Victims {
    descriptor: i32,
    ids: &'static [AtomicU32],
}

impl Victims {
    /// The list of an earlier process, or a new one. Its descriptor is inherited by programs executed.
    fn open(inherited: Option<i32>) -> Result<Self> {
        let descriptor = match inherited {
            Some(descriptor) => descriptor,
            None => {
                let new = rustix::fs::memfd_create("victims", rustix::fs::MemfdFlags::empty())
                    .context("cannot make a file in memory")?;
                rustix::fs::ftruncate(&new, page_size() as u64).context("cannot size it")?;
                let descriptor = new.as_raw_fd();
                // For all descendants, until the last has ended.
                std::mem::forget(new);
                // Who is killed is looked for in this process's group alone.
                // SAFETY: A system call without pointers.
                let grouped = unsafe { libc::setpgid(0, 0) };
                ensure!(grouped == 0, "cannot make a process group");
                descriptor
            }
        };
        // SAFETY: A new mapping of a file that is a page long and that nobody shortens; it is never
        // unmapped. Atomic integers may be changed by other processes, and have no invalid values.
        let ids = unsafe {
            let page = libc::mmap(
                ptr::null_mut(),
                page_size(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                descriptor,
                0,
            );
            ensure!(page != libc::MAP_FAILED, "cannot map the list of processes");
            std::slice::from_raw_parts(
                page.cast::<AtomicU32>(),
                page_size() / size_of::<AtomicU32>(),
            )
        };
        Ok(Self { descriptor, ids })
    }

    /// Adds this process. The first number is how many there have been.
    fn join(self) {
        let (count, ids) = self.ids.split_first().expect("a page is larger");
        let place = count.fetch_add(1, Ordering::Relaxed) as usize % ids.len();
        ids[place].store(std::process::id(), Ordering::Relaxed);
    }

    /// Kills one, in the midst of anything; perhaps the caller. Those that have ended are left alone.
    fn kill(self, random: &mut fastrand::Rng) {
        let (count, ids) = self.ids.split_first().expect("a page is larger");
        let known = (count.load(Ordering::Relaxed) as usize).min(ids.len());
        if known == 0 {
            return;
        }
        let victim = ids[random.usize(..known)].load(Ordering::Relaxed) as libc::pid_t;
        // SAFETY: System calls without pointers. An id of this group that was given anew belongs to a
        // process of this turmoil, too.
        unsafe {
            if victim != 0 && libc::getpgid(victim) == libc::getpgrp() {
                libc::kill(victim, libc::SIGKILL);
            }
        }
    }
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
fn next(options: &Options, victims: Victims, seed: u64) -> Command {
    let mut command = Command::new("/proc/self/exe");
    let threads = options.threads.get().min(THREADS_BELOW);
    command
        .arg("turmoil")
        .args(["--threads", &threads.to_string()])
        .args(["--rounds", &options.rounds.to_string()])
        .args(["--depth", &options.depth.saturating_sub(1).to_string()])
        .args(["--seed", &seed.to_string()])
        .args(["--victims", &victims.descriptor.to_string()]);
    command
}

/// What one thread does. The last process of a line of generations starts no further ones.
fn act(options: &Options, victims: Victims, thread: u64) -> Result<()> {
    let mut random = fastrand::Rng::with_seed(options.seed.wrapping_mul(1000).wrapping_add(thread));
    for _ in 0..options.rounds {
        match random.u8(0..8) {
            1 => {
                // Another thread; half of them are not waited for, and end when they end.
                let mut random = fastrand::Rng::with_seed(random.u64(..));
                let other = thread::Builder::new()
                    .spawn(move || touch(&mut random))
                    .context("cannot start a thread")?;
                if options.seed % 2 == 0 {
                    other.join().expect("it panicked")?;
                }
            }
            action @ (2 | 3) if options.depth > 0 => {
                // A child with threads of its own, killed by its parent or by others, or not.
                let mut child = next(options, victims, random.u64(..1_000_000))
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
                    memory::fork(|| {
                        victims.join();
                        i32::from(touch(&mut random).is_err())
                    })
                }?;
                // Its status is what it may be.
                // SAFETY: A system call without pointers that are not null.
                unsafe { libc::waitpid(child as libc::pid_t, ptr::null_mut(), 0) };
            }
            5 => victims.kill(&mut random),
            _ => touch(&mut random)?,
        }
    }
    // The whole process ends or goes on as another program, whatever the other threads are doing; not the
    // first one, which would take the rest of its threads' turmoil with it.
    match random.u8(0..8) {
        0 if options.victims.is_some() => exit(0),
        1 if options.victims.is_some() && options.depth > 0 => {
            Err(next(options, victims, random.u64(..1_000_000)).exec()).context("cannot execute")
        }
        _ => Ok(()),
    }
}

pub fn run(options: &Options) -> Result<()> {
    let victims = Victims::open(options.victims)?;
    if options.victims.is_some() && !options.spared {
        victims.join();
    }
    let threads: Vec<_> = (0..options.threads.get() as u64)
        .map(|thread| {
            let options = options.clone();
            thread::Builder::new()
                .spawn(move || act(&options, victims, thread))
                .context("cannot start a thread")
        })
        .collect::<Result<_>>()?;
    for thread in threads {
        thread.join().expect("it panicked")?;
    }
    if options.victims.is_some() {
        return Ok(());
    }
    // At the end another thread of the first process takes it over, whatever the seed.
    let last = Options {
        depth: 0,
        ..options.clone()
    };
    let execute = || next(&last, victims, options.seed).arg("--spared").exec();
    let error = thread::scope(|scope| scope.spawn(execute).join().expect("it panicked"));
    Err(error).context("cannot execute")
}
