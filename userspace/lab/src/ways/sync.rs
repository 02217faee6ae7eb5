// SPDX-License-Identifier: GPL-2.0-only

//! When written data is on the disk: `O_SYNC` and `O_DSYNC` wait in each call, `fsync` and `fdatasync` once. None of them
//! faults more than `write` does: they cost time, in system calls.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
};

use anyhow::Result;

use super::{Cases, Way};
use crate::lab::{Lab, Moved, CHUNK};

pub const WAYS: &[Way] = &[
    Way {
        name: "write-o-sync",
        cases: Cases::File,
        shows: "O_SYNC: each write(2) waits for data and metadata",
        run: |lab| write(lab, libc::O_SYNC, |_| Ok(())),
    },
    Way {
        name: "write-o-dsync",
        cases: Cases::File,
        shows: "O_DSYNC: each write(2) waits for the data",
        run: |lab| write(lab, libc::O_DSYNC, |_| Ok(())),
    },
    Way {
        name: "write-fsync",
        cases: Cases::File,
        shows: "one fsync(2) at the end",
        run: |lab| write(lab, 0, File::sync_all),
    },
    Way {
        name: "write-fdatasync",
        cases: Cases::File,
        shows: "one fdatasync(2) at the end",
        run: |lab| write(lab, 0, File::sync_data),
    },
];

fn write(lab: &Lab, flags: i32, sync: fn(&File) -> std::io::Result<()>) -> Result<Moved> {
    let mut from = lab.source()?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    let mut to = options.custom_flags(flags).open(&lab.to)?;
    let mut buffer = vec![0; CHUNK];
    for _ in 0..lab.bytes / CHUNK {
        from.read_exact(&mut buffer)?;
        to.write_all(&buffer)?;
    }
    sync(&to)?;
    Ok(Moved::unseen(lab.bytes))
}
