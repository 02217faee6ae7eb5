// SPDX-License-Identifier: GPL-2.0-only

//! Linux AIO (`io_submit`): only with `O_DIRECT` does the call return before the data is there. Without, it reads within
//! `io_submit`, as `read` would.

use std::{fs::File, io::Error, os::fd::AsRawFd as _, time::Instant};

use anyhow::{ensure, Result};
use rustix::mm::MapFlags;

use super::{direct, Cases, Way};
use crate::{
    lab::{Lab, Moved, CHUNK},
    map::Map,
};

/// Requests that wait at a time.
const DEPTH: usize = 8;

pub const WAYS: &[Way] = &[
    Way {
        name: "linux-aio",
        cases: Cases::File,
        shows: "io_submit(2) without O_DIRECT: all time is spent in io_submit",
        run: |lab| read(lab, &lab.source()?),
    },
    Way {
        name: "linux-aio-direct",
        cases: Cases::File,
        shows: "io_submit(2) with O_DIRECT: io_getevents waits",
        run: |lab| read(lab, &direct::source(lab)?),
    },
];

/// `struct iocb` of `include/uapi/linux/aio_abi.h`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Request {
    data: u64,
    key: u32,
    rw_flags: u32,
    opcode: u16,
    priority: i16,
    file: u32,
    buffer: u64,
    bytes: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    eventfd: u32,
}

/// `struct io_event`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Event {
    data: u64,
    request: u64,
    result: i64,
    second_result: i64,
}

fn read(lab: &Lab, file: &File) -> Result<Moved> {
    let mut context: libc::c_ulong = 0;
    // SAFETY: The call writes the context.
    let made = unsafe { libc::syscall(libc::SYS_io_setup, DEPTH, &mut context) };
    ensure!(made == 0, Error::last_os_error());
    let mut buffer = Map::of_memory(DEPTH * CHUNK, MapFlags::PRIVATE)?;
    let (mut submitting, mut waiting) = (0, 0);
    let mut moved = Moved::default();
    while moved.bytes < lab.bytes {
        let mut requests = [Request::default(); DEPTH];
        for (number, request) in requests.iter_mut().enumerate() {
            // CAST: a descriptor that is open is no negative number.
            request.file = file.as_raw_fd() as u32;
            request.buffer = buffer[number * CHUNK..].as_mut_ptr().addr() as u64;
            request.bytes = CHUNK as u64;
            request.offset = (moved.bytes + number * CHUNK) as i64;
        }
        let list = requests.each_mut().map(std::ptr::from_mut);
        let begun = Instant::now();
        // SAFETY: The requests, and the buffer they name, stay until all have ended below.
        let submitted = unsafe { libc::syscall(libc::SYS_io_submit, context, DEPTH, &list) };
        ensure!(submitted == DEPTH as i64, Error::last_os_error());
        submitting += begun.elapsed().as_micros();
        let begun = Instant::now();
        let mut events = [Event::default(); DEPTH];
        // SAFETY: There is room for as many events as are waited for.
        let ended = unsafe {
            libc::syscall(
                libc::SYS_io_getevents,
                context,
                DEPTH,
                DEPTH,
                &mut events,
                std::ptr::null::<libc::timespec>(),
            )
        };
        ensure!(ended == DEPTH as i64, Error::last_os_error());
        waiting += begun.elapsed().as_micros();
        for event in events {
            ensure!(event.result == CHUNK as i64, "{} bytes", event.result);
        }
        moved.read(&buffer);
    }
    // SAFETY: Nothing is under way.
    unsafe { libc::syscall(libc::SYS_io_destroy, context) };
    println!("in io_submit: {submitting} us, in io_getevents: {waiting} us");
    Ok(moved)
}
