// SPDX-License-Identifier: GPL-2.0-only

//! `asleep`: faults that sleep until somebody says so. Each thread takes one, on a page that a userfaultfd
//! serves, and nobody serves it before the time has come.

use std::{
    fs::File,
    io::{self, Read},
    num::NonZeroUsize,
    os::fd::{AsRawFd, FromRawFd},
    path::PathBuf,
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{bail, ensure, Context, Result};
use clap::Args;

use crate::{
    memory::{page_size, Access, Region},
    truth::Truth,
};

#[derive(Args, Clone)]
pub struct Options {
    /// Threads, and faults that sleep
    #[arg(long, default_value = "1")]
    threads: NonZeroUsize,
    /// Make this file when all faults sleep
    #[arg(long)]
    ready: Option<PathBuf>,
    /// Let them sleep until this file is there
    #[arg(long)]
    until: Option<PathBuf>,
    /// Let them sleep for so many milliseconds more
    #[arg(long, default_value = "0")]
    delay: u64,
}

/// Of threads that only touch a byte.
const STACK_BYTES: usize = 64 << 10;

// Of `linux/userfaultfd.h`.
const UFFD_API: u64 = 0xAA;
const UFFDIO_API: libc::c_ulong = 0xC018_AA3F;
const UFFDIO_REGISTER: libc::c_ulong = 0xC020_AA00;
const UFFDIO_ZEROPAGE: libc::c_ulong = 0xC020_AA04;
const REGISTER_MODE_MISSING: u64 = 1;
const EVENT_PAGEFAULT: u8 = 0x12;
/// `struct uffd_msg`, and where the address is in it.
const MESSAGE_BYTES: usize = 32;
const MESSAGE_ADDRESS: usize = 16;

/// Makes a call of a userfaultfd.
fn call<const N: usize>(
    file: &File,
    command: libc::c_ulong,
    argument: &mut [u64; N],
) -> io::Result<()> {
    // SAFETY: The callers give the structure that belongs to the command, all of whose fields are 64-bit
    // numbers; it is ours for the time of the call. The memory named there is a region's.
    match unsafe { libc::ioctl(file.as_raw_fd(), command, argument.as_mut_ptr()) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Lets each thread take a fault, and serves them when the time has come.
pub fn run(options: &Options, mut truth: Truth) -> Result<()> {
    truth.text()?;
    let region = Arc::new(Region::anonymous(options.threads)?);
    // SAFETY: A call without pointers; its result is a new descriptor that is ours.
    let mut server = unsafe {
        match libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) {
            -1 => bail!("no userfaultfd: {}", io::Error::last_os_error()),
            fd => File::from_raw_fd(i32::try_from(fd)?),
        }
    };
    call(&server, UFFDIO_API, &mut [UFFD_API, 0, 0]).context("cannot agree with userfaultfd")?;
    let range = region.range();
    let mut register = [
        range.start as u64,
        range.len() as u64,
        REGISTER_MODE_MISSING,
        0,
    ];
    call(&server, UFFDIO_REGISTER, &mut register).context("cannot register the memory")?;
    let threads: Vec<_> = (0..options.threads.get())
        .map(|page| {
            let region = Arc::clone(&region);
            thread::Builder::new()
                .stack_size(STACK_BYTES)
                .spawn(move || region.touch(page, Access::Write))
        })
        .collect::<io::Result<_>>()
        .context("cannot start so many threads")?;
    let mut addresses = Vec::with_capacity(threads.len());
    while addresses.len() < threads.len() {
        let mut message = [0; MESSAGE_BYTES];
        server
            .read_exact(&mut message)
            .context("cannot read a fault")?;
        ensure!(message[0] == EVENT_PAGEFAULT, "an event of another kind");
        let (_, address) = message.split_at(MESSAGE_ADDRESS);
        addresses.push(u64::from_ne_bytes(address[..8].try_into()?) & !(page_size() as u64 - 1));
    }
    if let Some(ready) = &options.ready {
        File::create(ready).with_context(|| format!("cannot make {}", ready.display()))?;
    }
    while options.until.as_ref().is_some_and(|until| !until.exists()) {
        thread::sleep(Duration::from_millis(1));
    }
    thread::sleep(Duration::from_millis(options.delay));
    for address in addresses {
        let mut zero = [address, page_size() as u64, 0, 0];
        call(&server, UFFDIO_ZEROPAGE, &mut zero).context("cannot serve a fault")?;
    }
    for thread in threads {
        if thread.join().is_err() {
            bail!("a thread failed");
        }
    }
    truth.region(std::process::id(), &region.range());
    truth.write()
}
