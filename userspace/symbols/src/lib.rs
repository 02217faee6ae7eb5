// SPDX-License-Identifier: GPL-2.0-only

//! The symbols of code, from the files that it ran in and from no others.
//!
//! [`Elf`] is what a file says of itself; [`Symbolizer`] finds the symbols of a trace's code afterwards, but only
//! in files that are still the ones that ran.

mod elf;
mod identity;
mod jit;
mod jitdump;
mod symbolizer;

pub use elf::Elf;
pub use identity::{changed_ns, is_file_of};
pub use symbolizer::Symbolizer;

#[cfg(test)]
mod tests;
