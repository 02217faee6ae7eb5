// SPDX-License-Identifier: GPL-2.0-only

//! `mmap` with `MAP_PRIVATE`: as shared while it is read; a page that is written is copied first, and the file does not change.

use anyhow::Result;
use rustix::mm::MapFlags;

use super::{mmap_shared::read_pages, Cases, Way};
use crate::{
    lab::{Lab, Moved},
    map::Map,
};

pub const WAYS: &[Way] = &[
    Way {
        name: "mmap-private-read",
        cases: Cases::FileInAnyOrder,
        shows: "a private mapping that is read: as a shared one",
        run: read,
    },
    Way {
        name: "mmap-private-write",
        cases: Cases::FileInAnyOrder,
        shows: "a private mapping that is written: each page is copied, the file stays as it is",
        run: write,
    },
];

fn read(lab: &Lab) -> Result<Moved> {
    let map = Map::of_file(&lab.source()?, lab.bytes, MapFlags::PRIVATE)?;
    Ok(read_pages(lab, &map))
}

fn write(lab: &Lab) -> Result<Moved> {
    let mut map = Map::of_file(&lab.source()?, lab.bytes, MapFlags::PRIVATE)?;
    for offset in lab.pages() {
        map[offset] = 1;
    }
    Ok(Moved::unseen(lab.bytes))
}
