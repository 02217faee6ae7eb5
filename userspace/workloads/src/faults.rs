// SPDX-License-Identifier: GPL-2.0-only

//! `faults`: page faults on demand, and what they cost the threads that take them.
//!
//! It reads commands from standard input, one on each line, and answers each with a line of JSON:
//!
//! - `rounds N`: each worker touches all its pages N times, giving them back in between;
//! - `seconds S`: each worker does so until that time is over;
//! - `children N`: makes so many children, which wait until this process ends.
//!
//! So the same process can be measured with and without a tracer. Only the touching is timed.

use std::{
    fs::File,
    io::{self, BufRead as _, Read as _, Write as _},
    num::NonZeroUsize,
    panic::resume_unwind,
    thread,
    time::{Duration, Instant},
};

use anyhow::{bail, Context, Result};
use clap::Args;
use rustix::{
    thread::{sched_setaffinity, CpuSet},
    time::{clock_gettime, ClockId},
};

use crate::memory::{self, Access, Region};

#[derive(Args, Clone)]
pub struct Options {
    /// Pages of each worker
    #[arg(long, default_value = "4096")]
    pages: NonZeroUsize,
    /// Mappings that they lie in, each at least one page; neighbours in time lie in different ones
    #[arg(long, default_value = "1")]
    mappings: NonZeroUsize,
    /// Touch the pages in an order that this seed decides, instead of ascending
    #[arg(long)]
    shuffle: Option<u64>,
    /// Threads, or processes, that fault at the same time
    #[arg(long, default_value = "1")]
    workers: NonZeroUsize,
    /// Workers are forked for each command, not started as threads
    #[arg(long)]
    processes: bool,
    /// Keep worker K on the K-th of the CPUs that this process may run on
    #[arg(long)]
    pin: bool,
}

/// When a worker is done.
#[derive(Clone, Copy)]
enum Until {
    Rounds(u64),
    Time(Duration),
}

/// What one worker did: nanoseconds of its CPU time in each round.
type Rounds = Vec<u64>;

/// CPU time of this thread, in nanoseconds.
fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    // CAST: A thread's CPU time is not negative.
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The addresses to be touched, in order, as numbers of mapping and page.
fn order(options: &Options, worker: usize) -> Vec<(usize, usize)> {
    let mappings = options.mappings.get();
    let mut order: Vec<_> = (0..options.pages.get())
        .map(|i| (i % mappings, i / mappings))
        .collect();
    if let Some(seed) = options.shuffle {
        fastrand::Rng::with_seed(seed.wrapping_add(worker as u64)).shuffle(&mut order);
    }
    order
}

/// The memory of one worker.
fn regions(options: &Options) -> Result<Vec<Region>> {
    let (pages, mappings) = (options.pages.get(), options.mappings.get());
    if pages < mappings {
        bail!("{pages} pages cannot lie in {mappings} mappings: ask for more --pages");
    }
    (0..mappings)
        .map(|i| {
            let pages = (pages - i).div_ceil(mappings);
            let pages = NonZeroUsize::new(pages).context("a mapping without a page")?;
            Region::apart(pages)
        })
        .collect()
}

/// One worker's work.
fn work(options: &Options, worker: usize, regions: &[Region], until: Until) -> Result<Rounds> {
    if options.pin {
        pin(worker)?;
    }
    let order = order(options, worker);
    let started = Instant::now();
    let mut rounds = Rounds::new();
    loop {
        let done = match until {
            Until::Rounds(count) => rounds.len() as u64 >= count,
            Until::Time(time) => started.elapsed() >= time,
        };
        if done {
            return Ok(rounds);
        }
        let before = cpu_ns();
        for &(mapping, page) in &order {
            regions[mapping].touch(page, Access::Write);
        }
        rounds.push(cpu_ns() - before);
        for region in regions {
            region.discard().context("cannot give memory back")?;
        }
    }
}

/// Keeps this thread on one of the CPUs that it may run on.
fn pin(worker: usize) -> Result<()> {
    let allowed = rustix::thread::sched_getaffinity(None).context("cannot ask for the CPUs")?;
    let cpus: Vec<usize> = (0..CpuSet::MAX_CPU)
        .filter(|&cpu| allowed.is_set(cpu))
        .collect();
    let mut one = CpuSet::new();
    one.set(cpus[worker % cpus.len()]);
    sched_setaffinity(None, &one).context("cannot stay on a CPU")
}

/// Threads, joined in order.
fn threads(options: &Options, memory: &[Vec<Region>], until: Until) -> Result<Vec<Rounds>> {
    thread::scope(|scope| {
        let threads: Vec<_> = memory
            .iter()
            .enumerate()
            .map(|(worker, regions)| scope.spawn(move || work(options, worker, regions, until)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
            .collect()
    })
}

/// Children, each of which sends what it did through a pipe.
fn processes(options: &Options, memory: &[Vec<Region>], until: Until) -> Result<Vec<Rounds>> {
    let mut children = Vec::new();
    for (worker, regions) in memory.iter().enumerate() {
        let (reader, writer) = rustix::pipe::pipe().context("cannot make a pipe")?;
        let mut writer = File::from(writer);
        let body = || {
            let bytes: Vec<u8> = match work(options, worker, regions, until) {
                Ok(rounds) => rounds.iter().flat_map(|ns| ns.to_ne_bytes()).collect(),
                Err(_) => return 1,
            };
            i32::from(writer.write_all(&bytes).is_err())
        };
        // SAFETY: Where workers are processes, this process has one thread.
        let child = unsafe { memory::fork(body) }?;
        drop(writer);
        children.push((child, File::from(reader)));
    }
    let mut all = Vec::new();
    for (child, mut reader) in children {
        let mut bytes = Vec::new();
        reader
            .read_to_end(&mut bytes)
            .context("cannot read from a child")?;
        memory::wait_for(child)?;
        let words = bytes.chunks_exact(8);
        all.push(
            words
                .map(|ns| Ok(u64::from_ne_bytes(ns.try_into()?)))
                .collect::<Result<_>>()?,
        );
    }
    Ok(all)
}

/// Children that wait for this process's end.
fn wait_in_children(count: usize) -> Result<()> {
    for _ in 0..count {
        let body = || {
            // SAFETY: System calls on values. The parent ends by the kernel's hand or its own.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                loop {
                    libc::pause();
                }
            }
        };
        // SAFETY: This process has one thread while it has no workers.
        unsafe { memory::fork(body) }?;
    }
    Ok(())
}

fn answer(text: &str) -> Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{text}").context("cannot answer")?;
    output.flush().context("cannot answer")
}

fn report(pages: usize, wall: Duration, workers: &[Rounds]) -> String {
    let faults: usize = workers.iter().map(|rounds| rounds.len() * pages).sum();
    let rounds: Vec<String> = workers
        .iter()
        .map(|rounds| {
            let rounds: Vec<String> = rounds.iter().map(u64::to_string).collect();
            format!("[{}]", rounds.join(","))
        })
        .collect();
    format!(
        r#"{{"faults":{faults},"pages":{pages},"wall_ns":{},"rounds_ns":[{}]}}"#,
        wall.as_nanos(),
        rounds.join(",")
    )
}

pub fn run(options: &Options) -> Result<()> {
    let memory = (0..options.workers.get())
        .map(|_| regions(options))
        .collect::<Result<Vec<_>>>()?;
    let work_all = |until| -> Result<()> {
        let started = Instant::now();
        let workers = if options.processes {
            processes(options, &memory, until)?
        } else if let [regions] = memory.as_slice() {
            vec![work(options, 0, regions, until)?]
        } else {
            threads(options, &memory, until)?
        };
        answer(&report(options.pages.get(), started.elapsed(), &workers))
    };
    for line in io::stdin().lock().lines() {
        let line = line.context("cannot read commands")?;
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["rounds", count] => work_all(Until::Rounds(count.parse()?))?,
            ["seconds", seconds] => {
                let time = Duration::try_from_secs_f64(seconds.parse()?)?;
                work_all(Until::Time(time))?;
            }
            ["children", count] => {
                wait_in_children(count.parse()?)?;
                answer(&format!(r#"{{"children":{count}}}"#))?;
            }
            _ => bail!("unknown command: {line}"),
        }
    }
    Ok(())
}
