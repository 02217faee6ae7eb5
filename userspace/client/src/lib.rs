// SPDX-License-Identifier: GPL-2.0-only

//! The client of `/dev/fault_tracer`.
//!
//! - [`Session`]: a session of the module, with one method for each call of `uapi/PROTOCOL.md`;
//! - [`Records`]: the records in a drained buffer;
//! - [`Merge`]: the CPUs' records in one order of time, while they are being recorded;
//! - [`Horizon`]: the time before which no record can come any more.
//!
//! The module is asked for its version and sizes before anything else is done; see [`Session::open`].

mod error;
mod horizon;
mod merge;
mod record;
mod session;

pub use error::{Error, Result};
pub use fault_tracer_uapi as uapi;
pub use horizon::{now, settle, Horizon};
pub use merge::Merge;
pub use record::{Damaged, Records};
pub use session::{Drained, Mode, Session, BUFFER_WORDS_MIN};
