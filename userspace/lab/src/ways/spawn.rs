// SPDX-License-Identifier: GPL-2.0-only

//! How a program is started from a large one: after `fork`, the page tables of all memory were copied, and what the parent
//! writes faults; `vfork` and `posix_spawn` copy nothing.

use std::process::Command;

use anyhow::{ensure, Result};
use rustix::mm::{Advice, MapFlags};

use super::{Cases, Way};
use crate::{
    lab::{page_size, Lab, Moved},
    map::Map,
};

pub const WAYS: &[Way] = &[
    Way {
        name: "spawn",
        cases: Cases::Memory,
        shows: "posix_spawn(3), which vforks: the parent's memory is as before",
        run: |lab| {
            start(lab, || {
                // Rust's library uses posix_spawn where nothing is to be done in between.
                let status = Command::new("true").status()?;
                ensure!(status.success(), "true has failed");
                Ok(())
            })
        },
    },
    Way {
        name: "fork-exec",
        cases: Cases::Memory,
        shows: "fork(2) and execve(2): each page that the parent writes again faults",
        run: |lab| start(lab, fork_and_execute),
    },
];

fn start(lab: &Lab, program: fn() -> Result<()>) -> Result<Moved> {
    let mut memory = Map::of_memory(lab.bytes, MapFlags::PRIVATE)?;
    memory.advise(Advice::LinuxNoHugepage).ok();
    for round in 1..=2 {
        for offset in (0..lab.bytes).step_by(page_size()) {
            memory[offset] = round;
        }
        if round == 1 {
            program()?;
        }
    }
    Ok(Moved::unseen(lab.bytes))
}

fn fork_and_execute() -> Result<()> {
    let arguments = [c"true".as_ptr(), std::ptr::null()];
    // SAFETY: This program has one thread; the child executes another one or ends.
    match unsafe { libc::fork() } {
        -1 => Err(std::io::Error::last_os_error().into()),
        0 => {
            // SAFETY: A list of strings with ends, and an end of its own.
            unsafe {
                libc::execvp(arguments[0], arguments.as_ptr());
                libc::_exit(127)
            }
        }
        child => {
            let mut status = 0;
            // SAFETY: It is a child, and the status is written.
            ensure!(unsafe { libc::waitpid(child, &mut status, 0) } == child && status == 0);
            Ok(())
        }
    }
}
