// SPDX-License-Identifier: GPL-2.0-only

//! The files that code is in.
//!
//! While a trace is recorded, [`Files`] reads what tells a file from another of the same name; afterwards
//! [`Symbolizer`] finds the symbols, but only in files that are still the ones that ran.

mod elf;
mod files;
mod maps;
mod symbolizer;

pub use elf::Elf;
pub use files::Files;
pub use maps::{mapped_code, parse_maps};
pub use symbolizer::Symbolizer;

#[cfg(test)]
mod tests;
