// SPDX-License-Identifier: GPL-2.0-only

//! The client of `/dev/fault_tracer`.
//!
//! - [`Session`]: a session of the module, with one method for each call of `uapi/PROTOCOL.md`;
//! - [`Rings`]: takes the records out of its rings, by calls or from shared memory;
//! - [`Records`]: the records among what was taken;
//! - [`Merge`]: the CPUs' records in one order of time, while they are being recorded;
//! - [`settle`]: the time before which no record can come any more.
//!
//! The module is asked for its version and sizes before anything else is done; see [`Session::open`].

mod error;
mod horizon;
mod merge;
mod record;
mod rings;
mod session;

pub use error::{Error, Result};
pub use fault_tracer_uapi as uapi;
pub use horizon::{settle, Clock, Time, WallOffset};
pub use merge::{Merge, Timed};
pub use record::{
    Damaged, Exit, Lost, MappedFile, Mapping, Overrun, Record, Records, Return, Stack,
    StackContent, Task, TaskEvent,
};
#[doc(hidden)]
pub use rings::take_from;
pub use rings::Rings;
pub use session::{
    Drained, Hook, Mode, Readiness, Rule, RuleKind, Session, Settings, Stacks, BUFFER_WORDS_MIN,
};
