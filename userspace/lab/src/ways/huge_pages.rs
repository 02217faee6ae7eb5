// SPDX-License-Identifier: GPL-2.0-only

//! Huge pages: one fault for all the memory of one. `madvise-hugepage` shows what files get.

use anyhow::Result;
use rustix::mm::{Advice, MapFlags};

use super::{Cases, Way};
use crate::{
    lab::{Lab, Moved},
    map::Map,
};

pub const WAYS: &[Way] = &[
    Way {
        name: "huge-pages",
        cases: Cases::Memory,
        shows: "MADV_HUGEPAGE on memory: a fault for each huge page",
        run: |lab| write(lab, Advice::LinuxHugepage),
    },
    Way {
        name: "huge-pages-not",
        cases: Cases::Memory,
        shows: "MADV_NOHUGEPAGE: a fault for each page",
        run: |lab| write(lab, Advice::LinuxNoHugepage),
    },
];

fn write(lab: &Lab, advice: Advice) -> Result<Moved> {
    let mut memory = Map::of_memory(lab.bytes, MapFlags::PRIVATE)?;
    memory.advise(advice)?;
    for offset in lab.pages() {
        memory[offset] = 1;
    }
    Ok(Moved::unseen(lab.bytes))
}
