// SPDX-License-Identifier: GPL-2.0-only

//! `mmap` with `MAP_SHARED`: the page cache itself, in the program's memory. Nothing is copied; pages fault instead. A fault
//! maps the pages around it, too, if they are in memory. A page that is written first faults as a read does, and once more for
//! the right to write, unless the first touch is a write.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt as _,
};

use anyhow::Result;
use rustix::{
    fs::{fadvise, Advice},
    mm::MapFlags,
};

use super::{Cases, Way};
use crate::{
    lab::{page_size, Lab, Moved},
    map::Map,
};

pub const WAYS: &[Way] = &[
    Way {
        name: "mmap-read",
        cases: Cases::FileInAnyOrder,
        shows: "a shared mapping that is read",
        run: read,
    },
    Way {
        name: "mmap-write",
        cases: Cases::FileInAnyOrder,
        shows: "a shared mapping of a new file that is written: each page faults",
        run: write,
    },
    Way {
        name: "mmap-overwrite",
        cases: Cases::FileInAnyOrder,
        shows: "a shared mapping of a file with data, not in memory: what is written is read from the disk first",
        run: overwrite,
    },
    Way {
        name: "mmap-read-then-write",
        cases: Cases::FileInAnyOrder,
        shows: "pages that are read, then written: a second fault each",
        run: read_then_write,
    },
];

fn read(lab: &Lab) -> Result<Moved> {
    let map = Map::of_file(&lab.source()?, lab.bytes, MapFlags::SHARED)?;
    Ok(read_pages(lab, &map))
}

/// Reads each page, in the order asked for.
pub fn read_pages(lab: &Lab, map: &Map) -> Moved {
    let mut moved = Moved::default();
    for offset in lab.pages() {
        moved.read(&map[offset..offset + page_size()]);
    }
    moved
}

fn write(lab: &Lab) -> Result<Moved> {
    let from = Map::of_file(&lab.source()?, lab.bytes, MapFlags::SHARED)?;
    let to = lab.target_of_full_length()?;
    let mut map = Map::of_file(&to, lab.bytes, MapFlags::SHARED)?;
    for offset in lab.pages() {
        map[offset..offset + page_size()].copy_from_slice(&from[offset..offset + page_size()]);
    }
    Ok(Moved::unseen(lab.bytes))
}

fn overwrite(lab: &Lab) -> Result<Moved> {
    std::fs::copy(&lab.from, &lab.to)?;
    let to = writable(lab)?;
    to.sync_all()?;
    fadvise(&to, 0, None, Advice::DontNeed)?;
    let mut map = Map::of_file(&to, lab.bytes, MapFlags::SHARED)?;
    let from = lab.source()?;
    let mut page = vec![0; page_size()];
    for offset in lab.pages() {
        from.read_exact_at(&mut page, offset as u64)?;
        map[offset..offset + page_size()].copy_from_slice(&page);
    }
    Ok(Moved::unseen(lab.bytes))
}

/// The file that is written, as it is.
fn writable(lab: &Lab) -> Result<File> {
    let mut options = OpenOptions::new();
    Ok(options.read(true).write(true).open(&lab.to)?)
}

fn read_then_write(lab: &Lab) -> Result<Moved> {
    std::fs::copy(&lab.from, &lab.to)?;
    let mut map = Map::of_file(&writable(lab)?, lab.bytes, MapFlags::SHARED)?;
    let moved = read_pages(lab, &map);
    for offset in lab.pages() {
        // The same value, so that the file stays as it is.
        let value = map[offset];
        // SAFETY: The byte is ours. An ordinary write of what is there already would be left out by the compiler.
        unsafe { map.as_mut_ptr().add(offset).write_volatile(value) };
    }
    Ok(moved)
}
