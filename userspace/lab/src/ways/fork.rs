// SPDX-License-Identifier: GPL-2.0-only

//! `fork`: parent and child share all pages, read-only, until one of them writes: then it gets a copy. If the other has gone by
//! then, the page is its own again, without a copy, and still after a fault.

use anyhow::{ensure, Result};
use rustix::mm::{Advice, MapFlags};

use super::{Cases, Way};
use crate::{
    lab::{page_size, Lab, Moved},
    map::Map,
};

pub const WAYS: &[Way] = &[
    Way {
        name: "fork-write",
        cases: Cases::Memory,
        shows: "the child writes all memory of its parent: a copy of each page",
        run: |lab| fork(lab, true),
    },
    Way {
        name: "fork-read",
        cases: Cases::Memory,
        shows: "the child reads it: nothing is copied; what the parent writes after the child's end faults all the same",
        run: |lab| fork(lab, false),
    },
];

fn fork(lab: &Lab, child_writes: bool) -> Result<Moved> {
    let mut memory = Map::of_memory(lab.bytes, MapFlags::PRIVATE)?;
    memory.advise(Advice::LinuxNoHugepage).ok();
    let pages = lab.pages();
    write(&mut memory, &pages);
    // SAFETY: This program has one thread, and the child only touches memory and exits.
    match unsafe { libc::fork() } {
        -1 => return Err(std::io::Error::last_os_error().into()),
        0 => {
            if child_writes {
                write(&mut memory, &pages);
            } else {
                read(&memory, &pages);
            }
            // SAFETY: The child's own end, without what the parent has to do at its own.
            unsafe { libc::_exit(0) };
        }
        child => {
            let mut status = 0;
            // SAFETY: It is a child, and the status is written.
            ensure!(unsafe { libc::waitpid(child, &mut status, 0) } == child && status == 0);
        }
    }
    write(&mut memory, &pages);
    Ok(Moved::unseen(lab.bytes))
}

fn write(memory: &mut Map, pages: &[usize]) {
    for &offset in pages {
        // SAFETY: Within the mapping, which is ours. Volatile, as the compiler sees that the value is there already.
        unsafe { memory.as_mut_ptr().add(offset).write_volatile(1) };
    }
}

fn read(memory: &Map, pages: &[usize]) {
    for &offset in pages {
        // SAFETY: As above.
        unsafe {
            memory
                .as_ptr()
                .add(offset / page_size() * page_size())
                .read_volatile()
        };
    }
}
