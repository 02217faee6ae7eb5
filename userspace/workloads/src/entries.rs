// SPDX-License-Identifier: GPL-2.0-only

//! `entries`: pages whose page table entry is neither empty nor an ordinary page's.

use std::{
    fs::File,
    num::NonZeroUsize,
    os::fd::{AsFd, AsRawFd as _},
    process::id,
};

use anyhow::{ensure, Context, Result};
use clap::{Args, ValueEnum};
use rustix::{io::Errno, mm};

use crate::{
    memory::{self, page_size, Access, Region},
    truth::Truth,
    userfault::{feature, Mode, Userfault},
};

#[derive(Args, Clone)]
pub struct Options {
    /// What the entries are
    #[arg(long, value_enum)]
    entry: Entry,
    /// Pages
    #[arg(long, default_value = "20")]
    pages: NonZeroUsize,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Entry {
    /// Guard pages, which the kernel reads for us in vain
    Guard,
    /// Pages marked as lost through userfaultfd, which the kernel reads for us in vain
    Poisoned,
    /// Pages of broken memory, which the kernel reads for us in vain (spoils that memory)
    Broken,
    /// Fresh shared memory protected through userfaultfd, which is read
    WriteProtected,
    /// Pages that a device has, which are read (needs the kernel's driver test_hmm)
    DevicePrivate,
    /// Pages that a device alone may use, which are read (needs the kernel's driver test_hmm)
    DeviceExclusive,
    /// Pages that a child has made inaccessible for itself, which this process writes as a debugger does
    Protected,
}

/// `MADV_GUARD_INSTALL` and `MADV_HWPOISON` of linux/mman.h.
const MADV_GUARD_INSTALL: i32 = 102;
const MADV_HWPOISON: i32 = 100;

/// Has the kernel read each page for us, which must fail.
fn fail_to_read(region: &Region, truth: &mut Truth) -> Result<()> {
    let (_reader, writer) = rustix::pipe::pipe().context("cannot make a pipe")?;
    for page in 0..region.pages() {
        let address = region.address(page);
        // SAFETY: The address is looked at by the kernel, which checks it; one byte.
        let byte = unsafe { std::slice::from_raw_parts(address as *const u8, 1) };
        let result = rustix::io::write(writer.as_fd(), byte);
        ensure!(
            result == Err(Errno::FAULT),
            "reading page {page} should have failed: {result:?}"
        );
        truth.failed(address);
    }
    Ok(())
}

pub fn run(options: &Options, mut truth: Truth) -> Result<()> {
    truth.text()?;
    match options.entry {
        Entry::Guard => {
            let region = Region::anonymous(options.pages)?;
            region
                .advise(MADV_GUARD_INSTALL)
                .context("cannot install guard pages")?;
            truth.region(id(), &region.range());
            fail_to_read(&region, &mut truth)?;
        }
        Entry::Poisoned => {
            let uffd = Userfault::open(feature::POISON)?;
            let region = Region::anonymous(options.pages)?;
            uffd.register(&region.range(), Mode::Missing)?;
            uffd.poison(&region.range())?;
            truth.region(id(), &region.range());
            fail_to_read(&region, &mut truth)?;
        }
        Entry::Broken => {
            let region = Region::anonymous(options.pages)?;
            truth.region(id(), &region.range());
            write_all(&region, &mut truth);
            region
                .advise(MADV_HWPOISON)
                .context("cannot have memory taken for broken")?;
            fail_to_read(&region, &mut truth)?;
        }
        Entry::WriteProtected => {
            let uffd = Userfault::open(feature::WP | feature::WP_SHMEM)?;
            let memfd = rustix::fs::memfd_create("entries", rustix::fs::MemfdFlags::CLOEXEC)
                .context("cannot make a file in memory")?;
            let file = File::from(memfd);
            file.set_len((options.pages.get() * page_size()) as u64)?;
            let region = Region::shared(Some(&file), options.pages)?;
            uffd.register(&region.range(), Mode::Write)?;
            uffd.protect(&region.range(), Mode::Write)?;
            truth.region(id(), &region.range());
            for page in 0..region.pages() {
                region.touch(page, Access::Read);
                truth.fault(
                    region.address(page),
                    Access::Read,
                    "file,shared,swap-entry,user,uffd-wp",
                    "uffd-wp",
                );
            }
        }
        Entry::DevicePrivate => of_device(Device::MIGRATE, "device-private", options, &mut truth)?,
        Entry::DeviceExclusive => {
            of_device(Device::EXCLUSIVE, "device-exclusive", options, &mut truth)?;
        }
        Entry::Protected => {
            let region = Region::anonymous(options.pages)?;
            poke(&region, &mut truth)?;
        }
    }
    truth.write()
}

/// A device that takes memory: the first of the driver `lib/test_hmm.c`.
struct Device(File);

impl Device {
    /// `HMM_DMIRROR_MIGRATE_TO_DEV` and `HMM_DMIRROR_EXCLUSIVE` of `lib/test_hmm_uapi.h`.
    const MIGRATE: libc::c_ulong = 0xc028_4802;
    const EXCLUSIVE: libc::c_ulong = 0xc028_4805;

    fn open() -> Result<Self> {
        let mut options = File::options();
        let file = options.read(true).write(true).open("/dev/hmm_dmirror0");
        Ok(Self(file.context("no device that takes memory")?))
    }

    /// Has it take a region's pages.
    fn take(&self, command: libc::c_ulong, region: &Region) -> Result<()> {
        let range = region.range();
        // What it reads of them. Written, so that the kernel needs no fault to copy it.
        let mut copy = vec![7u8; range.len()];
        let pages = region.pages() as u64;
        let mut request = [range.start as u64, copy.as_mut_ptr() as u64, pages, 0, 0];
        // SAFETY: The structure has the command's size, and the copy that of the pages.
        let done = unsafe { libc::ioctl(self.0.as_raw_fd(), command, request.as_mut_ptr()) };
        ensure!(
            done == 0 && request[3] == pages,
            "the device took {} of {pages} pages: {}",
            request[3],
            std::io::Error::last_os_error()
        );
        Ok(())
    }
}

/// Reads pages that a device has taken, of which the entries bear this flag.
fn of_device(
    command: libc::c_ulong,
    flag: &str,
    options: &Options,
    truth: &mut Truth,
) -> Result<()> {
    let device = Device::open()?;
    let region = Region::anonymous(options.pages)?;
    truth.region(id(), &region.range());
    write_all(&region, truth);
    device.take(command, &region)?;
    for page in 0..region.pages() {
        region.touch(page, Access::Read);
        let flags = format!("swap-entry,user,{flag}");
        truth.fault(region.address(page), Access::Read, &flags, flag);
    }
    Ok(())
}

/// A child reads each page and takes all access away; then this process writes each as a debugger does.
fn poke(region: &Region, truth: &mut Truth) -> Result<()> {
    let range = region.range();
    let body = || {
        for page in 0..region.pages() {
            region.touch(page, Access::Read);
        }
        let none = mm::MprotectFlags::empty();
        // SAFETY: The range is the region's, which this process accesses no more. The two calls have no
        // pointers.
        let ready = unsafe {
            mm::mprotect(range.start as *mut _, range.len(), none).is_ok()
                && libc::ptrace(libc::PTRACE_TRACEME) == 0
                && libc::raise(libc::SIGSTOP) == 0
        };
        i32::from(!ready)
    };
    // SAFETY: This process has one thread.
    let child = unsafe { memory::fork(body) }?;
    let mut status = 0;
    // SAFETY: `status` is an integer of ours.
    let waited = unsafe { libc::waitpid(child as libc::pid_t, &raw mut status, 0) };
    ensure!(
        waited == child as libc::pid_t && libc::WIFSTOPPED(status),
        "the child did not stop: wait status {status:#x}"
    );
    truth.region(child, &range);
    truth.region(id(), &range);
    for page in 0..region.pages() {
        let address = region.address(page);
        truth.fault_of((child, child), address, Access::Read, "user", "zero-page");
        // SAFETY: The address is looked up in the child.
        let poked = unsafe { libc::ptrace(libc::PTRACE_POKEDATA, child, address, 1) };
        ensure!(poked == 0, "cannot poke page {page}");
        truth.fault(
            address,
            Access::Write,
            "present,remote,gup,protected",
            "protected",
        );
    }
    // SAFETY: A call without pointers.
    let detached = unsafe { libc::ptrace(libc::PTRACE_DETACH, child, 0, 0) };
    ensure!(detached == 0, "cannot let the child go");
    memory::wait_for(child)
}

fn write_all(region: &Region, truth: &mut Truth) {
    for page in 0..region.pages() {
        region.touch(page, Access::Write);
        truth.fault(region.address(page), Access::Write, "user", "zero-fill");
    }
}
