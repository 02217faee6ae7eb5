// SPDX-License-Identifier: GPL-2.0-only

//! The symbols of code, from the files that it ran in and from no others.
//!
//! [`Elf`] is what a file says of itself; [`Symbolizer`] finds the symbols of a trace's code afterwards, but only
//! in files that are still the ones that ran.

mod elf;
mod frame_rule;
mod identity;
mod jit;
mod jitdump;
mod symbolizer;
mod unwind;

pub use elf::Elf;
pub use frame_rule::{Caller, FrameRule, Registers};
pub use identity::{changed_ns, is_file_of};
pub use symbolizer::Symbolizer;
pub use unwind::{Section, UnwindTable};

#[cfg(test)]
mod tests;
