// SPDX-License-Identifier: GPL-2.0-only

//! `rush`: threads of real-time priority that fault in ever new mappings of files, on each CPU, while others rename those
//! files, the folder above them and themselves, fork and execute programs.

use std::{
    fs::{self, File},
    num::NonZeroUsize,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{ensure, Context, Result};
use clap::Args;
use rustix::mm::{MapFlags, ProtFlags};

use crate::memory::{self, page_size, Access, Region};

#[derive(Args, Clone)]
pub struct Options {
    /// How long
    #[arg(long, default_value = "10")]
    seconds: u64,
    /// A folder for the files
    #[arg(long)]
    folder: PathBuf,
}

const FILES: usize = 64;

/// Makes this thread one of real-time priority on a CPU.
fn be_urgent(cpu: usize) -> Result<()> {
    // SAFETY: System calls on the calling thread, with structures of ours.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        ensure!(
            libc::sched_setaffinity(0, size_of_val(&set), &raw const set) == 0,
            "this thread cannot stay on CPU {cpu}"
        );
        let priority = libc::sched_param { sched_priority: 10 };
        ensure!(
            libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority) == 0,
            "this thread gets no real-time priority"
        );
    }
    Ok(())
}

/// The path of a file, which is in one of two folders under one of two names.
fn path(folder: &Path, place: bool, file: usize, name: bool) -> PathBuf {
    let inside = folder.join(if place { "here" } else { "there" });
    inside.join(format!("{}-{file}", if name { "one" } else { "other" }))
}

/// Maps files and touches them, again and again.
fn fault(folder: &Path, cpu: usize, over: &AtomicBool) -> Result<usize> {
    be_urgent(cpu)?;
    let mut faults = 0;
    let mut number = cpu;
    while !over.load(Ordering::Relaxed) {
        number += 1;
        let names = [(true, true), (true, false), (false, true), (false, false)];
        let open = |(place, name)| File::open(path(folder, place, number % FILES, name)).ok();
        // It may be on its way from one name to the other.
        if let Some(file) = names.into_iter().find_map(open) {
            let region =
                Region::file(&file, NonZeroUsize::MIN, ProtFlags::READ, MapFlags::PRIVATE)?;
            region.touch(0, Access::Read);
            let start = region.address(0) as *mut _;
            // SAFETY: The page of the mapping just made, which nobody uses any more.
            unsafe { rustix::mm::munmap(start, page_size()) }.context("cannot unmap")?;
            faults += 1;
        }
        // Others must run, too.
        if number % 4 == 0 {
            thread::sleep(Duration::from_micros(500));
        }
    }
    Ok(faults)
}

/// Renames files, and the folder above them, again and again.
fn rename(folder: &Path, over: &AtomicBool) {
    let (mut place, mut name) = (true, true);
    while !over.load(Ordering::Relaxed) {
        for file in 0..FILES {
            // Another may have been quicker.
            let _ = fs::rename(
                path(folder, place, file, name),
                path(folder, place, file, !name),
            );
        }
        name = !name;
        let folder = |place| folder.join(if place { "here" } else { "there" });
        let _ = fs::rename(folder(place), folder(!place));
        place = !place;
    }
}

/// Takes other names, makes children and has them execute a program.
fn live(over: &AtomicBool) -> Result<()> {
    let mut number = 0u32;
    while !over.load(Ordering::Relaxed) {
        number += 1;
        rustix::thread::set_name(c"another-name").context("no new name")?;
        let mut child = Command::new("true").spawn().context("no child")?;
        rustix::thread::set_name(c"one-name").context("no new name")?;
        ensure!(child.wait()?.success(), "true has failed");
    }
    ensure!(number > 0, "nothing was done");
    Ok(())
}

pub fn run(options: &Options) -> Result<()> {
    let folder = &options.folder;
    fs::create_dir_all(folder.join("here"))?;
    for file in 0..FILES {
        let file = File::create(path(folder, true, file, true))?;
        memory::fill(&file, NonZeroUsize::MIN, &[1])?;
        rustix::fs::fsync(file.as_fd())?;
    }
    let cpus = thread::available_parallelism()?.get();
    let over = AtomicBool::new(false);
    let until = Instant::now() + Duration::from_secs(options.seconds);
    thread::scope(|scope| {
        let faulting: Vec<_> = (0..cpus)
            .map(|cpu| {
                scope.spawn({
                    let over = &over;
                    move || fault(folder, cpu, over)
                })
            })
            .collect();
        let living: Vec<_> = (0..2).map(|_| scope.spawn(|| live(&over))).collect();
        let renaming = scope.spawn(|| rename(folder, &over));
        thread::sleep(until.saturating_duration_since(Instant::now()));
        over.store(true, Ordering::Relaxed);
        let mut faults = 0;
        for thread in faulting {
            faults += thread.join().expect("it panicked")?;
        }
        for thread in living {
            thread.join().expect("it panicked")?;
        }
        renaming.join().expect("it panicked");
        println!("{faults}");
        ensure!(faults > 0, "no file was found under any name");
        Ok(())
    })
}
