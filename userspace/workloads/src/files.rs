// SPDX-License-Identifier: GPL-2.0-only

//! `file`: private and shared mappings of a file, read and written.

use std::{fs::OpenOptions, num::NonZeroUsize, path::PathBuf};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use rustix::mm::{MapFlags, ProtFlags};

use crate::{
    memory::{self, Access, Region},
    truth::Truth,
};

#[derive(Args, Clone)]
pub struct Options {
    /// The file: made, or cut to the size
    #[arg(long)]
    path: PathBuf,
    /// Its pages
    #[arg(long, default_value = "100")]
    pages: NonZeroUsize,
    /// Kind of the mapping
    #[arg(long, value_enum, default_value_t = Sharing::Private)]
    mapping: Sharing,
    /// What is done to each page
    #[arg(long, value_enum, default_value_t = Pattern::Read)]
    access: Pattern,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sharing {
    /// What is written stays in this process
    Private,
    /// What is written is written to the file
    Shared,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Pattern {
    /// One load
    Read,
    /// One store
    Write,
    /// A load and then, after all loads, a store. In a private mapping it finds the page present, but
    /// read-only; in a shared one the first fault may have made it writable: that is not told
    ReadWrite,
}

pub fn run(options: &Options, mut truth: Truth) -> Result<()> {
    truth.text()?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&options.path)
        .with_context(|| format!("cannot make {}", options.path.display()))?;
    memory::fill(&file, options.pages, 1)
        .with_context(|| format!("cannot write {}", options.path.display()))?;
    let sharing = match options.mapping {
        Sharing::Private => MapFlags::PRIVATE,
        Sharing::Shared => MapFlags::SHARED,
    };
    let region = Region::file(
        &file,
        options.pages,
        ProtFlags::READ | ProtFlags::WRITE,
        sharing,
    )?;
    let passes: &[(Access, &str)] = match (options.mapping, options.access) {
        (Sharing::Private, Pattern::Read) => &[(Access::Read, "file,user")],
        (Sharing::Private, Pattern::Write) => &[(Access::Write, "file,user")],
        (Sharing::Private, Pattern::ReadWrite) => &[
            (Access::Read, "file,user"),
            (Access::Write, "present,file,user"),
        ],
        (Sharing::Shared, Pattern::Read) => &[(Access::Read, "file,shared,user")],
        (Sharing::Shared, Pattern::Write) => &[(Access::Write, "file,shared,user")],
        (Sharing::Shared, Pattern::ReadWrite) => {
            anyhow::bail!("--mapping shared knows --access read and --access write")
        }
    };
    truth.region(std::process::id(), &region.range());
    for &(access, _) in passes {
        for page in 0..region.pages() {
            region.touch(page, access);
        }
    }
    for &(access, flags) in passes {
        for page in 0..region.pages() {
            truth.fault(region.address(page), access, flags);
        }
    }
    truth.write()
}
