// SPDX-License-Identifier: GPL-2.0-only

//! `mappings`: a process with a mapping of each kind, all touched, that then stops. What it has is to be
//! read in its `/proc/PID/maps`; each mapping made here is known there by its
//! number of pages.

use std::{
    fs::{self, File},
    hint::black_box,
    io,
    os::fd::{AsRawFd, FromRawFd},
    path::PathBuf,
    ptr,
};

use anyhow::{bail, Context, Result};
use clap::Args;

use crate::memory::{page_size, RESERVED_PAGE};

#[derive(Args, Clone)]
pub struct Options {
    /// A folder in which files are made
    #[arg(long)]
    folder: PathBuf,
    /// Map a huge page too (one of 2 MiB must be reserved: /sys/kernel/mm/hugepages)
    #[arg(long)]
    huge: bool,
}

/// Maps, and touches the first page: `length` bytes, of a file from `offset` on if one is given.
fn map(pages: usize, rights: i32, flags: i32, file: Option<(&File, i64)>) -> Result<*mut u8> {
    let (fd, offset) = file.map_or((-1, 0), |(file, offset)| (file.as_raw_fd(), offset));
    // SAFETY: A new mapping at an address of the kernel's choice touches no memory in use.
    let start = unsafe {
        libc::mmap(
            ptr::null_mut(),
            pages * page_size(),
            rights,
            flags,
            fd,
            offset,
        )
    };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error()).context("cannot map memory");
    }
    let start: *mut u8 = start.cast();
    // SAFETY: The page was just mapped with the right that is used.
    unsafe {
        if rights & libc::PROT_WRITE != 0 {
            start.write_volatile(1);
        } else {
            black_box(start.read_volatile());
        }
    }
    Ok(start)
}

pub fn run(options: &Options) -> Result<()> {
    const READ: i32 = libc::PROT_READ;
    const WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;
    const PRIVATE: i32 = libc::MAP_PRIVATE;
    const SHARED: i32 = libc::MAP_SHARED;
    const ANONYMOUS: i32 = libc::MAP_ANONYMOUS;

    let page = page_size();
    let offset = i64::try_from(3 * page)?;
    let new_file = |name: &str| -> Result<File> {
        let path = options.folder.join(name);
        fs::write(&path, vec![7; 64 * page])
            .with_context(|| format!("cannot write {}", path.display()))?;
        File::options()
            .read(true)
            .write(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))
    };
    let plain = new_file("plain file")?;
    let deleted = new_file("deleted")?;
    fs::remove_file(options.folder.join("deleted")).context("cannot remove a file")?;
    // SAFETY: A system call on a C string; the descriptor is new and ours.
    let memory_file = unsafe {
        let fd = libc::memfd_create(c"in-memory".as_ptr(), libc::MFD_CLOEXEC);
        if fd < 0 {
            return Err(io::Error::last_os_error()).context("cannot make a file in memory");
        }
        File::from_raw_fd(fd)
    };
    memory_file
        .set_len(64 * page as u64)
        .context("cannot size a file in memory")?;

    map(11, WRITE, PRIVATE | ANONYMOUS, None)?;
    map(12, WRITE, SHARED | ANONYMOUS, None)?;
    map(13, READ, PRIVATE, Some((&plain, 0)))?;
    map(14, WRITE, PRIVATE, Some((&plain, offset)))?;
    map(15, WRITE, SHARED, Some((&plain, 0)))?;
    map(16, READ | libc::PROT_EXEC, PRIVATE, Some((&plain, offset)))?;
    map(17, WRITE, SHARED, Some((&deleted, offset)))?;
    map(18, WRITE, SHARED, Some((&memory_file, offset)))?;
    let locked = map(19, WRITE, PRIVATE | ANONYMOUS, None)?;
    // SAFETY: The mapping above; its second page is touched for the first time, in a mapping that is
    // another one since it is locked on fault.
    unsafe {
        let lock_on_fault = 1; // MLOCK_ONFAULT of linux/mman.h
        if libc::syscall(libc::SYS_mlock2, locked, 19 * page, lock_on_fault) != 0 {
            bail!("cannot lock memory: {}", io::Error::last_os_error());
        }
        locked.add(page).write_volatile(1);
    }
    let named = map(20, WRITE, PRIVATE | ANONYMOUS, None)?;
    // SAFETY: As above; the call reads a C string. A kernel without named memory refuses it, and the
    // mapping then is called nothing.
    unsafe {
        libc::prctl(
            libc::PR_SET_VMA,
            libc::PR_SET_VMA_ANON_NAME,
            named,
            20 * page,
            c"a name".as_ptr(),
        );
        named.add(page).write_volatile(1);
    }
    map(21, WRITE, PRIVATE | ANONYMOUS | libc::MAP_GROWSDOWN, None)?;
    if options.huge {
        map(
            RESERVED_PAGE / page,
            WRITE,
            PRIVATE | ANONYMOUS | libc::MAP_HUGETLB | libc::MAP_HUGE_2MB,
            None,
        )
        .context("is a huge page reserved?")?;
    }
    // The heap proper: the C library takes memory from elsewhere in some threads and sizes.
    // SAFETY: Nobody else moves the break: the process has one thread, and it is moved back by nobody.
    unsafe {
        let new = libc::sbrk(isize::try_from(8 * page)?).cast::<u8>();
        new.wrapping_add(4 * page).write_volatile(1);
    }
    // The kernel's page of clocks.
    black_box(std::time::Instant::now());
    // SAFETY: A signal to this thread.
    unsafe { libc::raise(libc::SIGSTOP) };
    Ok(())
}
