// SPDX-License-Identifier: GPL-2.0-only

//! `msync`: when a shared mapping's pages go to the disk. They are made read-only for it, so that the next write faults again:
//! `wp-shared`.

use anyhow::Result;
use rustix::mm::{msync, MapFlags, MsyncFlags};

use super::{Cases, Way};
use crate::{
    lab::{page_size, Lab, Moved},
    map::Map,
};

pub const WAYS: &[Way] = &[
    Way {
        name: "msync",
        cases: Cases::File,
        shows: "written, msync(MS_SYNC), written again: a second fault for each page",
        run: |lab| write(lab, MsyncFlags::SYNC),
    },
    Way {
        name: "msync-async",
        cases: Cases::File,
        shows: "the same with MS_ASYNC, which writes nothing at once: no second fault",
        run: |lab| write(lab, MsyncFlags::ASYNC),
    },
];

fn write(lab: &Lab, flags: MsyncFlags) -> Result<Moved> {
    let from = Map::of_file(&lab.source()?, lab.bytes, MapFlags::SHARED)?;
    let mut map = Map::of_file(&lab.target_of_full_length()?, lab.bytes, MapFlags::SHARED)?;
    let mut copy = || {
        for offset in lab.pages() {
            map[offset..offset + page_size()].copy_from_slice(&from[offset..offset + page_size()]);
        }
        map.start()
    };
    let start = copy();
    // SAFETY: The mapping is ours, and nothing of what is in it changes.
    unsafe { msync(start, lab.bytes, flags) }?;
    copy();
    Ok(Moved::unseen(lab.bytes))
}
