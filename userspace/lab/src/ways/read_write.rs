// SPDX-License-Identifier: GPL-2.0-only

//! `read` and `write`: the kernel copies between the page cache and a buffer of the program. The buffer faults once; the
//! file never does, since it is mapped nowhere.

use std::io::{Read as _, Write as _};

use anyhow::Result;

use super::{Cases, Way};
use crate::lab::{Lab, Moved, CHUNK};

pub const WAYS: &[Way] = &[
    Way {
        name: "read",
        cases: Cases::File,
        shows: "read(2) into one buffer of 64 KiB",
        run: read,
    },
    Way {
        name: "write",
        cases: Cases::File,
        shows: "read(2), then write(2) from the same buffer",
        run: write,
    },
    Way {
        name: "read-whole",
        cases: Cases::File,
        shows:
            "one read(2) into a buffer as long as the file: each of its pages faults, in the kernel",
        run: read_whole,
    },
];

fn read(lab: &Lab) -> Result<Moved> {
    let mut file = lab.source()?;
    let mut buffer = vec![0; CHUNK];
    let mut moved = Moved::default();
    while moved.bytes < lab.bytes {
        file.read_exact(&mut buffer)?;
        moved.read(&buffer);
    }
    Ok(moved)
}

fn write(lab: &Lab) -> Result<Moved> {
    let (mut from, mut to) = (lab.source()?, lab.target()?);
    let mut buffer = vec![0; CHUNK];
    for _ in 0..lab.bytes / CHUNK {
        from.read_exact(&mut buffer)?;
        to.write_all(&buffer)?;
    }
    Ok(Moved::unseen(lab.bytes))
}

fn read_whole(lab: &Lab) -> Result<Moved> {
    let mut file = lab.source()?;
    // Memory that nobody has touched: the kernel does, when it copies.
    let mut buffer = vec![0; lab.bytes];
    file.read_exact(&mut buffer)?;
    let mut moved = Moved::default();
    moved.read(&buffer);
    Ok(moved)
}
