// SPDX-License-Identifier: GPL-2.0-only

//! `shared`: fresh pages of memory that processes share, of each kind there is.

use std::{
    ffi::CString,
    fs::File,
    io,
    num::NonZeroUsize,
    os::fd::{AsRawFd as _, FromRawFd},
    path::PathBuf,
};

use anyhow::{bail, Context, Result};
use clap::{Args, ValueEnum};
use rustix::mm::ProtFlags;

use crate::{
    memory::{page_size, Access, Region},
    truth::Truth,
};

#[derive(Args, Clone)]
pub struct Options {
    /// Where the memory comes from
    #[arg(long, value_enum, default_value_t = Memory::Anonymous)]
    memory: Memory,
    /// Its pages; half of them are read, the others written
    #[arg(long, default_value = "100")]
    pages: NonZeroUsize,
    /// Map it by a descriptor that is open for reading alone; all pages are read
    #[arg(long)]
    read_only: bool,
    /// The file of `--memory file`: written, then mapped
    #[arg(long, value_name = "FILE", required_if_eq("memory", "file"))]
    path: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Memory {
    /// mmap without a file
    Anonymous,
    /// memfd_create
    Memfd,
    /// shm_open
    Posix,
    /// shmget
    SystemV,
    /// memfd_secret
    Secret,
    /// A private mapping of /dev/zero, which is not shared
    DevZero,
    /// A file of a file system
    File,
}

/// Takes a descriptor that a C function gave.
fn file(descriptor: i32, pages: NonZeroUsize) -> Result<File> {
    if descriptor < 0 {
        return Err(io::Error::last_os_error()).context("cannot make memory to share");
    }
    // SAFETY: The descriptor is new and nobody else's.
    let file = unsafe { File::from_raw_fd(descriptor) };
    file.set_len((pages.get() * page_size()) as u64)
        .context("cannot size memory to share")?;
    Ok(file)
}

/// A mapping of a file; by a descriptor of its own that cannot write, if so wished.
fn map(file: &File, options: &Options) -> Result<Region> {
    if !options.read_only {
        return Region::shared(Some(file), options.pages);
    }
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let file = File::open(&path).with_context(|| format!("cannot open {path}"))?;
    Region::shared_with(Some(&file), options.pages, ProtFlags::READ)
}

fn region(options: &Options) -> Result<Region> {
    let &Options {
        memory,
        pages,
        read_only,
        ..
    } = options;
    match memory {
        Memory::Anonymous if read_only => bail!("there is no descriptor to open"),
        Memory::Anonymous => Region::shared(None, pages),
        Memory::Memfd => {
            // SAFETY: A system call on a C string.
            let descriptor =
                unsafe { libc::memfd_create(c"ft-workload".as_ptr(), libc::MFD_CLOEXEC) };
            map(&file(descriptor, pages)?, options)
        }
        Memory::Secret => {
            // SAFETY: A system call without pointers.
            let descriptor = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
            map(&file(i32::try_from(descriptor)?, pages)?, options)
        }
        Memory::Posix => {
            let name = CString::new(format!("/ft-workload-{}", std::process::id()))?;
            // SAFETY: Calls on a C string.
            let descriptor = unsafe {
                libc::shm_open(
                    name.as_ptr(),
                    libc::O_RDWR | libc::O_CREAT | libc::O_EXCL,
                    0o600,
                )
            };
            let region = map(&file(descriptor, pages)?, options);
            // SAFETY: As above.
            if unsafe { libc::shm_unlink(name.as_ptr()) } != 0 {
                return Err(io::Error::last_os_error()).context("cannot remove the name");
            }
            region
        }
        Memory::SystemV => Region::system_v(pages, read_only),
        Memory::DevZero => Region::dev_zero(pages),
        Memory::File => {
            let path = options.path.as_deref().context("no --path")?;
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)
                .with_context(|| format!("cannot open {}", path.display()))?;
            crate::memory::fill(&file, pages, &[])?;
            // One mapping for each page, so that the kernel does not map neighbours along.
            let (file, protection) = if options.read_only {
                (File::open(path)?, ProtFlags::READ)
            } else {
                (file, ProtFlags::READ | ProtFlags::WRITE)
            };
            Region::file(&file, pages, protection, rustix::mm::MapFlags::SHARED)
        }
    }
}

pub fn run(options: &Options, mut truth: Truth) -> Result<()> {
    truth.text()?;
    let region = region(options)?;
    let access = |page: usize| match page % 2 {
        0 if !options.read_only => Access::Write,
        _ => Access::Read,
    };
    truth.region(std::process::id(), &region.range());
    for page in 0..region.pages() {
        region.touch(page, access(page));
    }
    for page in 0..region.pages() {
        let (flags, kind) = match (options.memory, access(page)) {
            (Memory::DevZero, Access::Write) => ("user", "zero-fill"),
            (Memory::DevZero, _) => ("user", "zero-page"),
            (Memory::File, Access::Write) => ("file,shared,user", "file-write"),
            (Memory::File, _) => ("file,shared,user", "file-read"),
            _ => ("file,shared,user", "shared-memory"),
        };
        truth.fault(region.address(page), access(page), flags, kind);
    }
    truth.write()
}
