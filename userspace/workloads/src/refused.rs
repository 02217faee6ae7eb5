// SPDX-License-Identifier: GPL-2.0-only

//! `unmapped`, `beyond`, `special`: children whose one access is refused, fails, or is of a page that the
//! kernel gives each process.

use std::{fs::File, io, num::NonZeroUsize, process::id};

use anyhow::{ensure, Context, Result};
use clap::Args;

use crate::{
    memory::{self, page_size, Access, Region},
    truth::Truth,
};

#[derive(Args, Clone)]
pub struct Options {
    /// Children
    #[arg(long, default_value = "10")]
    count: NonZeroUsize,
}

/// Runs a child that must be ended by a signal, and leaves no core file.
///
/// # Safety
///
/// The process has one thread.
unsafe fn ends_by(signal: i32, body: impl FnOnce() -> Result<()>) -> Result<()> {
    // SAFETY: By this function's contract. The structure is alive for the time of the system call.
    let child = unsafe {
        memory::fork(|| {
            let none = libc::rlimit {
                rlim_cur: 0,
                rlim_max: 0,
            };
            libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
            // The standard library's handler would have the access made again.
            libc::signal(signal, libc::SIG_DFL);
            i32::from(body().is_err())
        })
    }?;
    let mut status = 0;
    // SAFETY: `status` is an integer of ours.
    while unsafe { libc::waitpid(child as libc::pid_t, &raw mut status, 0) } != child as libc::pid_t
    {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error).context("cannot wait for a child");
        }
    }
    ensure!(
        libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == signal,
        "child {child} should have been ended by signal {signal}, but has the wait status {status:#x}"
    );
    Ok(())
}

/// Accesses to addresses that nothing is mapped at.
pub fn unmapped(options: &Options, truth: &Truth) -> Result<()> {
    let region = Region::anonymous(options.count)?;
    let range = region.range();
    // SAFETY: The mapping just made, which nobody has used.
    if unsafe { libc::munmap(range.start as *mut _, range.len()) } != 0 {
        return Err(io::Error::last_os_error()).context("cannot unmap");
    }
    for page in 0..region.pages() {
        let mut truth = truth.another();
        let body = || {
            truth.denied(region.address(page));
            truth.write()?;
            region.touch(page, Access::Read);
            Ok(())
        };
        // SAFETY: The process has one thread.
        unsafe { ends_by(libc::SIGSEGV, body) }?;
    }
    Ok(())
}

/// Accesses to pages of a mapping that are behind the end of its file.
pub fn beyond(options: &Options, truth: &Truth) -> Result<()> {
    let memfd = rustix::fs::memfd_create("ft-workload-empty", rustix::fs::MemfdFlags::CLOEXEC)
        .context("cannot make a file in memory")?;
    let region = Region::shared(Some(&File::from(memfd)), options.count)?;
    for page in 0..region.pages() {
        let mut truth = truth.another();
        let body = || {
            truth.region(id(), &region.range());
            truth.failed(region.address(page));
            truth.write()?;
            region.touch(page, Access::Read);
            Ok(())
        };
        // SAFETY: The process has one thread.
        unsafe { ends_by(libc::SIGBUS, body) }?;
    }
    Ok(())
}

/// Reads of the first page of the vDSO. A fork does not copy what was mapped of it, so each child has the
/// fault anew.
pub fn special(options: &Options, truth: &Truth) -> Result<()> {
    // SAFETY: Reads the values that the kernel gave the program at its start.
    let vdso = unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) } as usize;
    ensure!(vdso != 0, "the kernel gives this process no vDSO");
    for _ in 0..options.count.get() {
        let mut truth = truth.another();
        let mut body = || -> Result<()> {
            // SAFETY: The kernel has mapped at least the page of the ELF header there, readable.
            unsafe { (vdso as *const u8).read_volatile() };
            truth.region(id(), &(vdso..vdso + page_size()));
            truth.fault(vdso, Access::Read, "user", "special");
            truth.write()
        };
        // SAFETY: The process has one thread.
        let child = unsafe { memory::fork(|| i32::from(body().is_err())) }?;
        memory::wait_for(child)?;
    }
    Ok(())
}
