// SPDX-License-Identifier: GPL-2.0-only

//! `MAP_POPULATE` and `MADV_POPULATE_WRITE`: the kernel faults all pages in within one call. The faults are as many, but cheaper:
//! there is no way into the kernel and back for each. And what memory costs without them.

use anyhow::Result;
use rustix::mm::{Advice, MapFlags};

use super::{mmap_shared::read_pages, Cases, Way};
use crate::{
    lab::{Lab, Moved},
    map::Map,
};

pub const WAYS: &[Way] = &[
    Way {
        name: "map-populate",
        cases: Cases::FileInAnyOrder,
        shows: "MAP_POPULATE on a file: mapped at once",
        run: file,
    },
    Way {
        name: "map-populate-memory",
        cases: Cases::Memory,
        shows: "MAP_POPULATE on memory: filled at once",
        run: |lab| memory(lab, MapFlags::POPULATE, None),
    },
    Way {
        name: "populate-write-memory",
        cases: Cases::Memory,
        shows: "MADV_POPULATE_WRITE on memory",
        run: |lab| memory(lab, MapFlags::empty(), Some(Advice::LinuxPopulateWrite)),
    },
    Way {
        name: "memory",
        cases: Cases::Memory,
        shows: "memory that is filled when it is touched: a fault for each page",
        run: |lab| memory(lab, MapFlags::empty(), None),
    },
    Way {
        name: "memory-read-first",
        cases: Cases::Memory,
        shows: "memory that is read before it is written: the shared page of zeros, then a page of its own; two faults for each",
        run: read_first,
    },
];

fn file(lab: &Lab) -> Result<Moved> {
    let flags = MapFlags::SHARED | MapFlags::POPULATE;
    let map = Map::of_file(&lab.source()?, lab.bytes, flags)?;
    Ok(read_pages(lab, &map))
}

/// Writes memory, in the order asked for.
fn memory(lab: &Lab, flags: MapFlags, advice: Option<Advice>) -> Result<Moved> {
    let mut map = Map::of_memory(lab.bytes, MapFlags::PRIVATE | flags)?;
    // Pages of one size, whatever the machine's setting.
    map.advise(Advice::LinuxNoHugepage).ok();
    if let Some(advice) = advice {
        map.advise(advice)?;
    }
    for offset in lab.pages() {
        map[offset] = 1;
    }
    Ok(Moved::unseen(lab.bytes))
}

fn read_first(lab: &Lab) -> Result<Moved> {
    let mut map = Map::of_memory(lab.bytes, MapFlags::PRIVATE)?;
    map.advise(Advice::LinuxNoHugepage).ok();
    for offset in lab.pages() {
        // SAFETY: Within the mapping, which is ours. Volatile, as the compiler knows what is in it.
        unsafe {
            let byte = map.as_mut_ptr().add(offset);
            byte.write_volatile(byte.read_volatile() + 1);
        }
    }
    Ok(Moved::unseen(lab.bytes))
}
