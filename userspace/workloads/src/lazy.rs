// SPDX-License-Identifier: GPL-2.0-only

//! `lazy`: pages that another thread sees to while the fault waits (userfaultfd): when the fault is tried
//! again, it finds what that thread has done.

use std::{fs::File, num::NonZeroUsize, thread};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use crate::{
    memory::{fill, Access, Region},
    truth::Truth,
    userfault::{feature, Mode, Userfault},
};

#[derive(Args, Clone)]
pub struct Options {
    /// What the faults wait for
    #[arg(long, value_enum, default_value_t = Wait::Missing)]
    wait: Wait,
    /// Pages
    #[arg(long, default_value = "100")]
    pages: NonZeroUsize,
}

#[derive(Clone, Copy, ValueEnum)]
enum Wait {
    /// Fresh memory to be filled, which is read
    Missing,
    /// Memory protected from writes, which is written
    Write,
    /// Shared memory whose pages are there, which is read
    Minor,
    /// Memory protected from reads and writes, which is read (from Linux 7.3 on)
    Access,
}

pub fn run(options: &Options, mut truth: Truth) -> Result<()> {
    truth.text()?;
    let (mode, features) = match options.wait {
        Wait::Missing => (Mode::Missing, 0),
        Wait::Write => (Mode::Write, feature::WP),
        Wait::Minor => (Mode::Minor, feature::MINOR_SHMEM),
        Wait::Access => (Mode::Access, feature::RWP),
    };
    let protected = matches!(options.wait, Wait::Write | Wait::Access);
    let uffd = Userfault::open(features)?;
    let region = match options.wait {
        Wait::Missing | Wait::Write | Wait::Access => Region::anonymous(options.pages)?,
        Wait::Minor => {
            let memfd = rustix::fs::memfd_create("lazy", rustix::fs::MemfdFlags::CLOEXEC)
                .context("cannot make a file in memory")?;
            let file = File::from(memfd);
            fill(&file, options.pages, &[1])?;
            Region::shared(Some(&file), options.pages)?
        }
    };
    let range = region.range();
    truth.region(std::process::id(), &range);
    if protected {
        for page in 0..region.pages() {
            region.touch(page, Access::Write);
            truth.fault(region.address(page), Access::Write, "user", "zero-fill");
        }
    }
    uffd.register(&range, mode)?;
    if protected {
        uffd.protect(&range, mode)?;
    }
    let (access, flags, kind) = match options.wait {
        Wait::Missing | Wait::Access => (Access::Read, "present,user", "spurious"),
        Wait::Write => (Access::Write, "present,user", "copy-on-write"),
        Wait::Minor => (Access::Read, "present,file,shared,user", "spurious"),
    };
    thread::scope(|scope| {
        let handler = scope.spawn(|| uffd.handle(mode, options.pages.get()));
        for page in 0..region.pages() {
            region.touch(page, access);
        }
        handler.join().expect("it panicked")
    })?;
    for page in 0..region.pages() {
        truth.fault(region.address(page), access, flags, kind);
    }
    truth.write()
}
