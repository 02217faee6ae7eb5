// SPDX-License-Identifier: GPL-2.0-only

//! `pread` and `pwrite`: as `read` and `write`, each call with its own offset. The order costs no fault; cold, it costs
//! readahead.

use std::os::unix::fs::FileExt as _;

use anyhow::Result;

use super::{Cases, Way};
use crate::lab::{page_size, Lab, Moved};

pub const WAYS: &[Way] = &[
    Way {
        name: "pread",
        cases: Cases::FileInAnyOrder,
        shows: "pread(2) of each page, in any order",
        run: pread,
    },
    Way {
        name: "pwrite",
        cases: Cases::FileInAnyOrder,
        shows: "pread(2), then pwrite(2), of each page, in any order",
        run: pwrite,
    },
];

fn pread(lab: &Lab) -> Result<Moved> {
    let file = lab.source()?;
    let mut page = vec![0; page_size()];
    let mut moved = Moved::default();
    for offset in lab.pages() {
        file.read_exact_at(&mut page, offset as u64)?;
        moved.read(&page);
    }
    Ok(moved)
}

fn pwrite(lab: &Lab) -> Result<Moved> {
    let (from, to) = (lab.source()?, lab.target_of_full_length()?);
    let mut page = vec![0; page_size()];
    for offset in lab.pages() {
        from.read_exact_at(&mut page, offset as u64)?;
        to.write_all_at(&page, offset as u64)?;
    }
    Ok(Moved::unseen(lab.bytes))
}
