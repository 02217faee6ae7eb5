// SPDX-License-Identifier: GPL-2.0-only

//! `io_uring`: requests and answers in memory that the program shares with the kernel. Registered buffers are pinned once, when
//! they are registered; others are looked up, and faulted in, for each request with `O_DIRECT`.

use std::{fs::File, os::fd::AsRawFd as _};

use anyhow::{ensure, Result};
use io_uring::{opcode, squeue, types::Fd, IoUring};
use rustix::mm::MapFlags;

use super::{direct, mmap_shared::read_pages, Cases, Way};
use crate::{
    lab::{Lab, Moved, CHUNK},
    map::Map,
};

/// Requests that wait at a time.
const DEPTH: usize = 8;

pub const WAYS: &[Way] = &[
    Way {
        name: "io-uring",
        cases: Cases::File,
        shows: "reads through the page cache, eight at a time",
        run: |lab| read(lab, &lab.source()?, Buffers::Plain),
    },
    Way {
        name: "io-uring-direct",
        cases: Cases::File,
        shows: "O_DIRECT, buffers that are not registered",
        run: |lab| read(lab, &direct::source(lab)?, Buffers::Plain),
    },
    Way {
        name: "io-uring-registered",
        cases: Cases::File,
        shows: "O_DIRECT, registered buffers: they fault once, when they are registered",
        run: |lab| read(lab, &direct::source(lab)?, Buffers::Registered),
    },
    Way {
        name: "io-uring-madvise",
        cases: Cases::File,
        shows: "madvise by io_uring (MADV_WILLNEED), then the mapping is read",
        run: madvise,
    },
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Buffers {
    Plain,
    Registered,
}

fn read(lab: &Lab, file: &File, buffers: Buffers) -> Result<Moved> {
    let mut ring = IoUring::new(DEPTH as u32)?;
    let mut memory = Map::of_memory(DEPTH * CHUNK, MapFlags::PRIVATE)?;
    if buffers == Buffers::Registered {
        let parts: Vec<_> = memory
            .chunks_mut(CHUNK)
            .map(|part| libc::iovec {
                iov_base: part.as_mut_ptr().cast(),
                iov_len: CHUNK,
            })
            .collect();
        // SAFETY: The memory lives longer than the ring's use of it: all requests have ended when this function does.
        unsafe { ring.submitter().register_buffers(&parts) }?;
    }
    let file = Fd(file.as_raw_fd());
    let mut moved = Moved::default();
    while moved.bytes < lab.bytes {
        let requests: Vec<squeue::Entry> = memory
            .chunks_mut(CHUNK)
            .enumerate()
            .map(|(number, part)| {
                let offset = (moved.bytes + number * CHUNK) as u64;
                let (start, bytes) = (part.as_mut_ptr(), CHUNK as u32);
                match buffers {
                    Buffers::Plain => opcode::Read::new(file, start, bytes).offset(offset).build(),
                    Buffers::Registered => {
                        opcode::ReadFixed::new(file, start, bytes, number as u16)
                            .offset(offset)
                            .build()
                    }
                }
            })
            .collect();
        // SAFETY: File and memory stay until all requests have ended, below.
        unsafe { ring.submission().push_multiple(&requests) }?;
        ring.submit_and_wait(DEPTH)?;
        for answer in ring.completion() {
            ensure!(answer.result() == CHUNK as i32, "{} bytes", answer.result());
        }
        moved.read(&memory);
    }
    Ok(moved)
}

fn madvise(lab: &Lab) -> Result<Moved> {
    let map = Map::of_file(&lab.source()?, lab.bytes, MapFlags::SHARED)?;
    let mut ring = IoUring::new(1)?;
    let request = opcode::Madvise::new(map.start(), lab.bytes as i64, libc::MADV_WILLNEED).build();
    // SAFETY: The mapping stays until the request has ended, below.
    unsafe { ring.submission().push(&request) }?;
    ring.submit_and_wait(1)?;
    for answer in ring.completion() {
        ensure!(answer.result() == 0, "madvise: {}", answer.result());
    }
    Ok(read_pages(lab, &map))
}
