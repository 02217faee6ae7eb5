// SPDX-License-Identifier: GPL-2.0-only

//! Page faults as data.
//!
//! [`Fault`] is the model; [`csv`] is the file format that `fault-tracer` writes and reads.

pub mod csv;
mod fault;

pub use fault::{Access, Account, Fault};
