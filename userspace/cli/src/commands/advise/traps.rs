// SPDX-License-Identifier: GPL-2.0-only

//! Faults of a command's own instructions, as the kernel counts them for perf: `perf_event_open(2)`,
//! `PERF_COUNT_SW_PAGE_FAULTS`. What the kernel populates is not among them, unlike in `getrusage(2)`.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::FromRawFd as _,
};

use anyhow::Context as _;

/// The first version of the kernel's structure, in include/uapi/linux/perf_event.h.
#[derive(Default)]
#[repr(C)]
struct PerfEventAttr {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    bp_type: u32,
    config1: u64,
}

const PERF_TYPE_SOFTWARE: u32 = 1;
const PERF_COUNT_SW_PAGE_FAULTS: u64 = 2;
const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 8;
/// Bits of [`PerfEventAttr::flags`].
const DISABLED: u64 = 1;
const INHERIT: u64 = 1 << 1;
const EXCLUDE_KERNEL: u64 = 1 << 5;
const EXCLUDE_HYPERVISOR: u64 = 1 << 6;
const ENABLE_ON_EXEC: u64 = 1 << 12;

/// Counts for a command.
pub struct Traps(File);

impl Traps {
    /// Counts for the commands that this thread starts from now on, from their exec on; and for all that they start.
    ///
    /// # Errors
    ///
    /// Those of `perf_event_open`: without the right to count.
    pub fn of_next_command() -> anyhow::Result<Self> {
        let attributes = PerfEventAttr {
            kind: PERF_TYPE_SOFTWARE,
            size: size_of::<PerfEventAttr>() as u32,
            config: PERF_COUNT_SW_PAGE_FAULTS,
            // This thread executes nothing: its own count stays off, and that of its children begins at their exec.
            flags: DISABLED | INHERIT | ENABLE_ON_EXEC | EXCLUDE_KERNEL | EXCLUDE_HYPERVISOR,
            ..PerfEventAttr::default()
        };
        // SAFETY: The structure is as long as it says, and only read. The rest are numbers: this thread, any CPU, no group.
        let opened = unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                &raw const attributes,
                0,
                -1,
                -1,
                PERF_FLAG_FD_CLOEXEC,
            )
        };
        if opened < 0 {
            return Err(io::Error::last_os_error()).context(
                "faults of the command's own instructions cannot be counted; sysctl kernel.perf_event_paranoid=2 \
                 allows it",
            );
        }
        // SAFETY: The descriptor is new, and nobody else has it. CAST: descriptors are ints.
        Ok(Self(unsafe { File::from_raw_fd(opened as i32) }))
    }

    /// How many there were, once the commands have been waited for.
    ///
    /// # Errors
    ///
    /// Those of reading.
    pub fn count(&self) -> io::Result<u64> {
        let mut count = [0; 8];
        (&self.0).read_exact(&mut count)?;
        Ok(u64::from_ne_bytes(count))
    }
}
