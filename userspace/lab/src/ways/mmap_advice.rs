// SPDX-License-Identifier: GPL-2.0-only

//! `madvise` on a mapping of a file: what the kernel reads ahead, reads now, gives back, or moves to the cold end.

use std::hint::black_box;

use anyhow::Result;
use rustix::mm::{Advice, MapFlags};

use super::{mmap_shared::read_pages, Cases, Way};
use crate::{
    lab::{Lab, Moved},
    map::Map,
};

pub const WAYS: &[Way] = &[
    Way {
        name: "madvise-normal",
        cases: Cases::FileInAnyOrder,
        shows: "MADV_NORMAL: readahead as the kernel sees fit",
        run: |lab| read(lab, Advice::Normal),
    },
    Way {
        name: "madvise-sequential",
        cases: Cases::FileInAnyOrder,
        shows: "MADV_SEQUENTIAL: more readahead",
        run: |lab| read(lab, Advice::Sequential),
    },
    Way {
        name: "madvise-random",
        cases: Cases::FileInAnyOrder,
        shows: "MADV_RANDOM: no readahead, so that each page that is not in memory faults and is read by itself",
        run: |lab| read(lab, Advice::Random),
    },
    Way {
        name: "madvise-willneed",
        cases: Cases::FileInAnyOrder,
        shows: "MADV_WILLNEED: reads from the disk now, and maps nothing",
        run: |lab| read(lab, Advice::WillNeed),
    },
    Way {
        name: "madvise-populate-read",
        cases: Cases::FileInAnyOrder,
        shows: "MADV_POPULATE_READ: reads and maps all now",
        run: |lab| read(lab, Advice::LinuxPopulateRead),
    },
    Way {
        name: "madvise-hugepage",
        cases: Cases::FileInAnyOrder,
        shows: "MADV_HUGEPAGE on a file: read and mapped as huge pages, where the file system has large folios",
        run: |lab| read(lab, Advice::LinuxHugepage),
    },
    Way {
        name: "madvise-cold",
        cases: Cases::FileInAnyOrder,
        shows: "MADV_COLD after reading: the pages stay mapped until memory is short",
        run: |lab| read_again(lab, Advice::LinuxCold),
    },
    Way {
        name: "madvise-dontneed",
        cases: Cases::FileInAnyOrder,
        shows: "MADV_DONTNEED after reading: the mapping forgets, the page cache does not; all faults again",
        run: |lab| read_again(lab, Advice::LinuxDontNeed),
    },
];

fn read(lab: &Lab, advice: Advice) -> Result<Moved> {
    let map = Map::of_file(&lab.source()?, lab.bytes, MapFlags::SHARED)?;
    map.advise(advice)?;
    Ok(read_pages(lab, &map))
}

/// Reads all, advises, and reads all again.
fn read_again(lab: &Lab, advice: Advice) -> Result<Moved> {
    let map = Map::of_file(&lab.source()?, lab.bytes, MapFlags::SHARED)?;
    // Nobody needs the sum: the compiler must not leave it out for that.
    black_box(read_pages(lab, &map));
    map.advise(advice)?;
    Ok(read_pages(lab, &map))
}
