// SPDX-License-Identifier: GPL-2.0-only

//! `children`: processes that a tracer must follow. `fork-cow`: pages that two processes share.

use std::{
    num::NonZeroUsize,
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::{id, Command},
    thread,
};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

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
    #[arg(long, default_value = "1")]
    parallel: NonZeroUsize,
    #[command(flatten)]
    node: NodeOptions,
}

/// What each child does.
#[derive(Args, Clone)]
pub struct NodeOptions {
    /// Pages that each touches, in order
    #[arg(long, default_value = "10")]
    pages: NonZeroUsize,
    /// Generations: 2 means that each child has a child
    #[arg(long, default_value = "1")]
    depth: NonZeroUsize,
    /// How they are made
    #[arg(long, value_enum, default_value_t = How::Fork)]
    how: How,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum How {
    /// By fork alone
    Fork,
    /// By fork; then the child executes this program
    Exec,
    /// As exec, but a second thread of the child executes it: it takes over the process id
    ThreadExec,
    /// By vfork or posix_spawn, as the standard library starts programs
    Spawn,
    /// By clone with CLONE_PARENT: each is a child of the first process's parent
    Sibling,
}

/// A process that was made.
enum Made {
    Child(u32),
    Sibling(OwnedFd),
}

impl Made {
    fn wait(self) -> Result<()> {
        match self {
            Self::Child(child) => memory::wait_for(child),
            Self::Sibling(sibling) => memory::wait_for_sibling(&sibling),
        }
    }
}

/// Touches fresh pages and tells them.
fn touch(pages: NonZeroUsize, truth: &mut Truth) -> Result<()> {
    let region = Region::anonymous(pages)?;
    for page in 0..region.pages() {
        region.touch(page, Access::Write);
    }
    truth.region(id(), &region.range());
    for page in 0..region.pages() {
        truth.fault(region.address(page), Access::Write, "user", "zero-fill");
    }
    truth.write()
}

/// What a child does: touches its pages and has a child of its own, if there is a generation left.
pub fn node(options: &NodeOptions, mut truth: Truth) -> Result<()> {
    touch(options.pages, &mut truth)?;
    match NonZeroUsize::new(options.depth.get() - 1) {
        None => Ok(()),
        Some(depth) => {
            let next = NodeOptions {
                depth,
                ..options.clone()
            };
            start(&next, &truth)?.wait()
        }
    }
}

/// The command line of a child that executes this program.
fn command(options: &NodeOptions, truth: &Truth) -> Command {
    let mut command = Command::new("/proc/self/exe");
    if let Some(path) = truth.path() {
        command.arg("--truth").arg(path);
    }
    let how = options
        .how
        .to_possible_value()
        .expect("no way is left out of the command line");
    command
        .arg("node")
        .args(["--pages", &options.pages.to_string()])
        .args(["--depth", &options.depth.to_string()])
        .args(["--how", how.get_name()]);
    command
}

/// Prints why a child failed; its status then.
fn status(result: Result<()>) -> i32 {
    match result {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("ft-workload: child: {error:#}");
            1
        }
    }
}

/// Makes a child.
fn start(options: &NodeOptions, truth: &Truth) -> Result<Made> {
    let execute = || -> Result<()> {
        Err(command(options, truth).exec()).context("cannot execute this program again")
    };
    // SAFETY: The process has one thread: none of the subcommands that come here starts one.
    let child = unsafe {
        match options.how {
            How::Sibling => {
                let sibling = memory::make_sibling(|| status(node(options, truth.another())));
                return sibling.map(Made::Sibling);
            }
            How::Fork => memory::fork(|| status(node(options, truth.another()))),
            How::Exec => memory::fork(|| status(execute())),
            How::ThreadExec => memory::fork(|| {
                thread::scope(|scope| status(scope.spawn(execute).join().expect("it panicked")))
            }),
            How::Spawn => Ok(command(options, truth)
                .spawn()
                .context("cannot start this program again")?
                .id()),
        }
    };
    child.map(Made::Child)
}

pub fn run(options: &Options, truth: Truth) -> Result<()> {
    let mut left = options.count.get();
    while left > 0 {
        let batch = left.min(options.parallel.get());
        let children: Vec<Made> = (0..batch)
            .map(|_| start(&options.node, &truth))
            .collect::<Result<_>>()?;
        for child in children {
            child.wait()?;
        }
        left -= batch;
    }
    Ok(())
}

#[derive(Args, Clone)]
pub struct CowOptions {
    /// Pages
    #[arg(long, default_value = "100")]
    pages: NonZeroUsize,
}

/// Writes pages, forks, writes them again in the child and then in the parent: both find them present
/// and read-only.
pub fn cow(options: &CowOptions, mut truth: Truth) -> Result<()> {
    truth.text()?;
    let region = Region::anonymous(options.pages)?;
    let write = |truth: &mut Truth, flags: &str, kind: &str| {
        for page in 0..region.pages() {
            region.touch(page, Access::Write);
        }
        for page in 0..region.pages() {
            truth.fault(region.address(page), Access::Write, flags, kind);
        }
    };
    truth.region(id(), &region.range());
    write(&mut truth, "user", "zero-fill");
    let mut reported = truth.another();
    // SAFETY: The process has one thread.
    let child = unsafe {
        memory::fork(|| {
            reported.region(id(), &region.range());
            write(&mut reported, "present,user", "copy-on-write");
            status(reported.write())
        })
    }?;
    memory::wait_for(child)?;
    write(&mut truth, "present,user", "copy-on-write");
    truth.write()
}
