// SPDX-License-Identifier: GPL-2.0-only

//! The trace file: an Arrow IPC stream of one table. `docs/trace-format.md` describes it.

pub(crate) mod batch;
mod compact;
mod read;
pub(crate) mod schema;
mod stream;
mod write;

pub use compact::{compact, Compacted};
pub use read::{ReadError, Reader};
pub use stream::{Changeable, Destination};
pub use write::Writer;

#[cfg(test)]
mod room_tests;
#[cfg(test)]
mod tests;
