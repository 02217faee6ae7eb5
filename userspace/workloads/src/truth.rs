// SPDX-License-Identifier: GPL-2.0-only

//! What a tracer must see of this program, as lines of text:
//!
//! ```text
//! text START END                        the program's own code
//! region PID START END                  addresses at which process PID has no other faults than these:
//! fault PID TID ADDRESS ACCESS FLAGS KIND
//!                                       a fault that completes
//! failed PID TID ADDRESS                a fault that fails
//! denied PID TID ADDRESS                an access that is refused before there is a fault to handle
//! wall PID TID ADDRESS BEFORE AFTER     nanoseconds since 1970 before and after the first fault there
//! ```
//!
//! Numbers are decimal, addresses hexadecimal. ACCESS is `r`, `w` or `x`. FLAGS are the tracer's names
//! separated by commas in the order of their bits, without `tried` and `vma-lock`, which tell how the
//! kernel went about a fault; `-` if there are none. KIND is the tool's name of what the fault asks for.
//! The faults of a thread stand in their order.

use std::{
    fmt::Write as _,
    fs::{self, OpenOptions},
    io::Write as _,
    ops::Range,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::memory::{self, Access};

/// Lines not yet written to the file.
pub struct Truth {
    path: Option<PathBuf>,
    lines: String,
}

impl Truth {
    /// Collects lines for a file; without one they are dropped.
    pub fn new(path: Option<PathBuf>) -> Self {
        Self {
            path,
            lines: String::new(),
        }
    }

    /// The file.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Lines for the same file, collected apart.
    pub fn another(&self) -> Self {
        Self::new(self.path.clone())
    }

    /// Puts the lines collected by `other` after these.
    pub fn extend(&mut self, other: Self) {
        self.lines.push_str(&other.lines);
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        if self.path.is_some() {
            writeln!(self.lines, "{line}").expect("writing to a String does not fail");
        }
    }

    /// The program's code.
    pub fn text(&mut self) -> Result<()> {
        let program = fs::read_link("/proc/self/exe").context("cannot read /proc/self/exe")?;
        let maps = fs::read_to_string("/proc/self/maps").context("cannot read /proc/self/maps")?;
        for line in maps.lines() {
            let mut fields = line.split_whitespace();
            let (Some(range), Some(rights)) = (fields.next(), fields.next()) else {
                continue;
            };
            if rights.contains('x') && line.ends_with(&*program.to_string_lossy()) {
                if let Some((start, end)) = range.split_once('-') {
                    self.line(format_args!("text {start} {end}"));
                }
            }
        }
        Ok(())
    }

    /// A range of addresses all faults at which are reported.
    pub fn region(&mut self, pid: u32, range: &Range<usize>) {
        self.line(format_args!(
            "region {pid} {:x} {:x}",
            range.start, range.end
        ));
    }

    /// A fault of a given thread.
    pub fn fault_of(
        &mut self,
        (pid, tid): (u32, u32),
        address: usize,
        access: Access,
        flags: &str,
        kind: &str,
    ) {
        let access = access.letter();
        self.line(format_args!(
            "fault {pid} {tid} {address:x} {access} {flags} {kind}"
        ));
    }

    /// A fault of the calling thread.
    pub fn fault(&mut self, address: usize, access: Access, flags: &str, kind: &str) {
        self.fault_of(own_ids(), address, access, flags, kind);
    }

    /// A fault of the calling thread, to come, that fails.
    pub fn failed(&mut self, address: usize) {
        let (pid, tid) = own_ids();
        self.line(format_args!("failed {pid} {tid} {address:x}"));
    }

    /// An access of the calling thread, to come, that is refused before there is a fault to handle.
    pub fn denied(&mut self, address: usize) {
        let (pid, tid) = own_ids();
        self.line(format_args!("denied {pid} {tid} {address:x}"));
    }

    /// When the calling thread's first fault at an address was, in nanoseconds since 1970.
    pub fn wall(&mut self, address: usize, (before, after): (i64, i64)) {
        let (pid, tid) = own_ids();
        self.line(format_args!(
            "wall {pid} {tid} {address:x} {before} {after}"
        ));
    }

    /// Appends the lines to the file, in one piece: several processes write to it.
    pub fn write(&mut self) -> Result<()> {
        if let Some(path) = &self.path {
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .and_then(|mut file| file.write_all(self.lines.as_bytes()))
                .with_context(|| format!("cannot write the truth to {}", path.display()))?;
            self.lines.clear();
        }
        Ok(())
    }
}

/// The calling process and thread.
fn own_ids() -> (u32, u32) {
    (std::process::id(), memory::thread_id())
}
