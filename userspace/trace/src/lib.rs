// SPDX-License-Identifier: GPL-2.0-only

//! Page faults as data: the model, and the files that hold it.
//!
//! [`Row`] is what a trace consists of, [`ResolvedFault`] its most frequent kind. [`file`](mod@file) is the trace
//! that `fault-tracer record` writes, [`csv`] the raw records of `fault-tracer drain`, [`export`] what other
//! programs read. Nothing here knows the device.

pub mod csv;
pub mod export;
mod fault;
pub mod file;
mod kind;
mod nodes;
mod page_size;
mod row;
mod stacks;

pub use fault::{Access, Account, Fault};
pub use kind::{permissions, Fate, Kind};
pub use nodes::Nodes;
pub use page_size::PageSize;
pub use row::{
    BuildId, Code, Counter, CounterRow, FileId, FrameRow, GapRow, Loss, LostRow, Metadata, Name,
    Object, Place, ResolvedFault, Row, TextRow, ThreadEvent, ThreadRow, ANONYMOUS, EVENTS,
    FIRST_FRAME, OUTERMOST, UNKNOWN_CALLER,
};
pub use stacks::Stacks;
