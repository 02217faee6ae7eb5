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
    /// A load and then, after all loads, a store, which finds the page present but read-only; in a shared
    /// mapping only of a file whose writes the kernel keeps account of: not of memory (tmpfs)
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
    memory::fill(&file, options.pages, &[1])
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
    let passes: &[(Access, &str, &str)] = match (options.mapping, options.access) {
        (Sharing::Private, Pattern::Read) => &[(Access::Read, "file,user", "file-read")],
        (Sharing::Private, Pattern::Write) => &[(Access::Write, "file,user", "file-copy")],
        (Sharing::Private, Pattern::ReadWrite) => &[
            (Access::Read, "file,user", "file-read"),
            (Access::Write, "present,file,user", "copy-on-write"),
        ],
        (Sharing::Shared, Pattern::Read) => &[(Access::Read, "file,shared,user", "file-read")],
        (Sharing::Shared, Pattern::Write) => &[(Access::Write, "file,shared,user", "file-write")],
        (Sharing::Shared, Pattern::ReadWrite) => &[
            (Access::Read, "file,shared,user", "file-read"),
            (Access::Write, "present,file,shared,user", "write-notify"),
        ],
    };
    truth.region(std::process::id(), &region.range());
    for &(access, _, _) in passes {
        for page in 0..region.pages() {
            region.touch(page, access);
        }
    }
    for &(access, flags, kind) in passes {
        for page in 0..region.pages() {
            truth.fault(region.address(page), access, flags, kind);
        }
    }
    truth.write()
}
