// SPDX-License-Identifier: GPL-2.0-only

//! `O_DIRECT`: the disk moves the data into the program's memory, past the page cache. The kernel pins the pages of the buffer
//! for that (`get_user_pages`), and they fault there if nobody has touched them. Offset, length and address must be multiples
//! of the disk's block.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
};

use anyhow::{ensure, Result};
use rustix::mm::MapFlags;

use super::{Cases, Way};
use crate::{
    lab::{page_size, Lab, Moved, CHUNK},
    map::Map,
};

pub const WAYS: &[Way] = &[
    Way {
        name: "direct-read",
        cases: Cases::File,
        shows: "O_DIRECT into one buffer of 64 KiB",
        run: read,
    },
    Way {
        name: "direct-read-whole",
        cases: Cases::File,
        shows: "O_DIRECT into memory that nobody has touched: get_user_pages faults it in",
        run: read_whole,
    },
    Way {
        name: "direct-write",
        cases: Cases::File,
        shows: "O_DIRECT out of one buffer",
        run: write,
    },
    Way {
        name: "direct-alignment",
        cases: Cases::File,
        shows: "what O_DIRECT refuses: an odd address, offset or length",
        run: alignment,
    },
];

pub fn source(lab: &Lab) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_DIRECT);
    Ok(options.open(&lab.from)?)
}

/// A buffer that begins on a page.
fn buffer(bytes: usize) -> Result<Map> {
    Map::of_memory(bytes, MapFlags::PRIVATE)
}

fn read(lab: &Lab) -> Result<Moved> {
    let file = source(lab)?;
    let mut buffer = buffer(CHUNK)?;
    let mut moved = Moved::default();
    while moved.bytes < lab.bytes {
        file.read_exact_at(&mut buffer, moved.bytes as u64)?;
        moved.read(&buffer);
    }
    Ok(moved)
}

fn read_whole(lab: &Lab) -> Result<Moved> {
    let file = source(lab)?;
    let mut buffer = buffer(lab.bytes)?;
    file.read_exact_at(&mut buffer, 0)?;
    let mut moved = Moved::default();
    moved.read(&buffer);
    Ok(moved)
}

fn write(lab: &Lab) -> Result<Moved> {
    let from = lab.source()?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    let to = options.custom_flags(libc::O_DIRECT).open(&lab.to)?;
    let mut buffer = buffer(CHUNK)?;
    for offset in (0..lab.bytes as u64).step_by(CHUNK) {
        from.read_exact_at(&mut buffer, offset)?;
        to.write_all_at(&buffer, offset)?;
    }
    Ok(Moved::unseen(lab.bytes))
}

fn alignment(lab: &Lab) -> Result<Moved> {
    let file = source(lab)?;
    let mut buffer = buffer(2 * page_size())?;
    let aligned = file.read_at(&mut buffer[..page_size()], 0)?;
    ensure!(aligned == page_size(), "{aligned} bytes were read");
    for (what, result) in [
        ("an odd offset", file.read_at(&mut buffer[..page_size()], 1)),
        (
            "an odd length",
            file.read_at(&mut buffer[..page_size() - 1], 0),
        ),
        (
            "an odd address",
            file.read_at(&mut buffer[1..=page_size()], 0),
        ),
    ] {
        match result {
            Ok(bytes) => println!("{what}: {bytes} bytes were read"),
            Err(error) => println!("{what}: {error}"),
        }
    }
    Ok(Moved::unseen(aligned))
}
