// SPDX-License-Identifier: GPL-2.0-only

//! POSIX AIO (`aio_read`): in glibc, threads that call `pread`. Each has a stack of its own, whose pages fault, too.

use std::{io::Error, mem, os::fd::AsRawFd as _};

use anyhow::{ensure, Result};

use super::{Cases, Way};
use crate::lab::{Lab, Moved, CHUNK};

/// Requests that wait at a time.
const DEPTH: usize = 8;

pub const WAYS: &[Way] = &[Way {
    name: "posix-aio",
    cases: Cases::File,
    shows: "aio_read(3), eight at a time: threads of the C library",
    run: read,
}];

fn read(lab: &Lab) -> Result<Moved> {
    let file = lab.source()?;
    let mut moved = Moved::default();
    let mut buffers = vec![vec![0u8; CHUNK]; DEPTH];
    while moved.bytes < lab.bytes {
        let mut requests: Vec<libc::aiocb> = buffers
            .iter_mut()
            .enumerate()
            .map(|(number, buffer)| {
                // SAFETY: A structure of numbers and pointers, for all of which zero is a value.
                let mut request: libc::aiocb = unsafe { mem::zeroed() };
                request.aio_fildes = file.as_raw_fd();
                request.aio_buf = buffer.as_mut_ptr().cast();
                request.aio_nbytes = CHUNK;
                // CAST: files of the lab are small.
                request.aio_offset = (moved.bytes + number * CHUNK) as i64;
                request
            })
            .collect();
        for request in &mut requests {
            // SAFETY: The request and its buffer stay where they are until it is awaited below.
            let begun = unsafe { libc::aio_read(request) };
            ensure!(begun == 0, Error::last_os_error());
        }
        for request in &mut requests {
            let list = [std::ptr::from_ref(request)];
            // SAFETY: A list of one request that was made above.
            unsafe { libc::aio_suspend(list.as_ptr(), 1, std::ptr::null()) };
            // SAFETY: As above; it has ended, and is asked for its result once.
            let count = unsafe { libc::aio_return(request) };
            ensure!(count == CHUNK as isize, "{count} bytes were read");
        }
        for buffer in &buffers {
            moved.read(buffer);
        }
    }
    Ok(moved)
}
