// SPDX-License-Identifier: GPL-2.0-only

//! What the tests inside the guest share: the module, the device, traced programs, traces that the tool
//! wrote, the kernel log, and the comparison of what was recorded with what is known to have happened.
//!
//! It speaks to the device by its own few system calls and not through the client library, so that
//! calls which that library would never make can be tried, and so that a fault of the library cannot
//! hide one of the module.
//!
//! Failures are panics, as tests want them.

#![expect(clippy::missing_panics_doc, reason = "a panic is how a test fails")]
#![expect(
    clippy::missing_errors_doc,
    reason = "errors are those of the system call"
)]

pub mod check;
pub mod compiler;
pub mod device;
pub mod failing;
pub mod group;
pub mod guest;
pub mod log;
pub mod mapped;
pub mod module;
pub mod perf;
pub mod program;
pub mod setting;
pub mod sideband;
pub mod swap;
pub mod tool;
pub mod trace;
pub mod truth;
