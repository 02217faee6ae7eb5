// SPDX-License-Identifier: GPL-2.0-only

//! The trace file: an Arrow IPC stream of one table. `docs/trace-format.md` describes it.

pub(crate) mod batch;
mod read;
mod replace;
pub(crate) mod schema;
mod write;

pub use read::{ReadError, Reader};
pub use replace::{Destination, Rewrite};
pub use write::Writer;

#[cfg(test)]
mod replace_tests;
#[cfg(test)]
mod tests;
