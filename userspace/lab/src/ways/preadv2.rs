// SPDX-License-Identifier: GPL-2.0-only

//! `preadv2` and `pwritev2`: several buffers and flags for each call. `RWF_NOWAIT` reads what is in memory and refuses to wait
//! for the disk; `RWF_DONTCACHE` (since 6.14) gives the page cache back when the data is through.

use std::io::{IoSlice, IoSliceMut};

use anyhow::Result;
use rustix::{
    fs::{fadvise, Advice},
    io::{preadv2, pwritev2, Errno, ReadWriteFlags},
};

use super::{Cases, Way};
use crate::lab::{Lab, Moved, CHUNK};

/// `RWF_DONTCACHE` of `include/uapi/linux/fs.h`.
const DONTCACHE: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x80);

pub const WAYS: &[Way] = &[
    Way {
        name: "preadv2",
        cases: Cases::File,
        shows: "preadv2(2) into two buffers at once",
        run: plain,
    },
    Way {
        name: "preadv2-nowait",
        cases: Cases::File,
        shows: "RWF_NOWAIT, and a call that may wait where it says EAGAIN",
        run: nowait,
    },
    Way {
        name: "preadv2-dontcache",
        cases: Cases::File,
        shows: "RWF_DONTCACHE: the file is not in memory afterwards",
        run: dontcache,
    },
    Way {
        name: "pwritev2-dontcache",
        cases: Cases::File,
        shows: "RWF_DONTCACHE for what is written",
        run: write_dontcache,
    },
];

/// Reads all, with these flags; where nothing can be read without waiting, again without.
fn read(lab: &Lab, flags: ReadWriteFlags) -> Result<Moved> {
    let file = lab.source()?;
    let (mut first, mut second) = (vec![0; CHUNK / 2], vec![0; CHUNK / 2]);
    let mut moved = Moved::default();
    while moved.bytes < lab.bytes {
        let offset = moved.bytes as u64;
        let mut buffers = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
        let count = match preadv2(&file, &mut buffers, offset, flags) {
            Err(Errno::AGAIN) => preadv2(&file, &mut buffers, offset, ReadWriteFlags::empty())?,
            other => other?,
        };
        moved.read(&first[..count.min(CHUNK / 2)]);
        moved.read(&second[..count.saturating_sub(CHUNK / 2)]);
    }
    Ok(moved)
}

fn plain(lab: &Lab) -> Result<Moved> {
    read(lab, ReadWriteFlags::empty())
}

fn nowait(lab: &Lab) -> Result<Moved> {
    read(lab, ReadWriteFlags::NOWAIT)
}

fn dontcache(lab: &Lab) -> Result<Moved> {
    let file = lab.source()?;
    // What is in memory already stays there.
    fadvise(&file, 0, None, Advice::DontNeed)?;
    match read(lab, DONTCACHE) {
        // The file system does not know it.
        Err(error) if error.downcast_ref() == Some(&Errno::OPNOTSUPP) => {
            read(lab, ReadWriteFlags::empty())
        }
        other => other,
    }
}

fn write_dontcache(lab: &Lab) -> Result<Moved> {
    let (from, to) = (lab.source()?, lab.target()?);
    let mut buffer = vec![0; CHUNK];
    let mut flags = DONTCACHE;
    let mut offset = 0;
    while offset < lab.bytes as u64 {
        let count = preadv2(
            &from,
            &mut [IoSliceMut::new(&mut buffer)],
            offset,
            ReadWriteFlags::empty(),
        )?;
        let data = [IoSlice::new(&buffer[..count])];
        offset += match pwritev2(&to, &data, offset, flags) {
            Err(Errno::OPNOTSUPP) => {
                flags = ReadWriteFlags::empty();
                continue;
            }
            other => other? as u64,
        };
    }
    Ok(Moved::unseen(lab.bytes))
}
