// SPDX-License-Identifier: GPL-2.0-only

//! The trace file: an Arrow IPC stream of one table. `docs/trace-format.md` describes it.

pub(crate) mod batch;
mod read;
pub(crate) mod schema;
mod write;

pub use read::{ReadError, Reader};
pub use write::Writer;

#[cfg(test)]
mod tests;
