// SPDX-License-Identifier: GPL-2.0-only

//! The ways, one file each. A file whose lesson has several parts has several ways.

use anyhow::Result;

use crate::lab::{Lab, Moved};

mod clocks;
mod copy_file_range;
mod direct;
mod fork;
mod huge_pages;
mod io_uring;
mod linux_aio;
mod lock;
mod malloc;
mod mmap_advice;
mod mmap_private;
mod mmap_shared;
mod msync;
mod nothing;
mod populate;
mod posix_aio;
mod pread_pwrite;
mod preadv2;
mod read_write;
mod sendfile;
mod spawn;
mod splice;
mod stack;
mod stdio;
mod sync;

/// A way of moving bytes.
pub struct Way {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it shows.
    pub shows: &'static str,
    /// In which ways it is to be tried.
    pub cases: Cases,
    /// Moves the bytes.
    pub run: fn(&Lab) -> Result<Moved>,
}

/// What makes a difference to a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cases {
    /// Neither the page cache nor the order.
    Memory,
    /// Whether the file is in memory.
    File,
    /// Whether the file is in memory, and the order of its pages.
    FileInAnyOrder,
}

impl Cases {
    /// Its name in `--list`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::File => "file",
            Self::FileInAnyOrder => "orders",
        }
    }
}

/// All ways, in the order of the lessons.
pub fn all() -> impl Iterator<Item = &'static Way> {
    [
        nothing::WAYS,
        read_write::WAYS,
        pread_pwrite::WAYS,
        preadv2::WAYS,
        stdio::WAYS,
        direct::WAYS,
        sync::WAYS,
        mmap_shared::WAYS,
        mmap_private::WAYS,
        mmap_advice::WAYS,
        populate::WAYS,
        lock::WAYS,
        msync::WAYS,
        posix_aio::WAYS,
        linux_aio::WAYS,
        io_uring::WAYS,
        splice::WAYS,
        sendfile::WAYS,
        copy_file_range::WAYS,
        malloc::WAYS,
        fork::WAYS,
        spawn::WAYS,
        stack::WAYS,
        huge_pages::WAYS,
        clocks::WAYS,
    ]
    .into_iter()
    .flatten()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::lab::Order;

    /// The ways that move the whole file into memory find the same in it, and what is written is what was read.
    #[test]
    fn all_ways_move_the_same_data() {
        // Not /tmp, which may be a tmpfs.
        let beside = std::env::current_exe().unwrap();
        let folder = tempfile::tempdir_in(beside.parent().unwrap()).unwrap();
        let lab = Lab {
            from: folder.path().join("from"),
            to: folder.path().join("to"),
            bytes: 4 << 20,
            order: Order::Strided,
        };
        lab.prepare().unwrap();
        let from = std::fs::read(&lab.from).unwrap();
        let sum = crate::lab::sum(&from);
        let mut names = HashSet::new();
        for way in all() {
            assert!(names.insert(way.name), "{}", way.name);
            let _ = std::fs::remove_file(&lab.to);
            let moved = (way.run)(&lab).unwrap_or_else(|error| panic!("{}: {error:#}", way.name));
            if moved.sum != 0 {
                assert_eq!((moved.bytes, moved.sum), (lab.bytes, sum), "{}", way.name);
            }
            if let Ok(to) = std::fs::read(&lab.to) {
                assert!(to == from, "{} has written something else", way.name);
            }
        }
    }
}
