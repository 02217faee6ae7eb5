// SPDX-License-Identifier: GPL-2.0-only

//! Page faults as data.
//!
//! [`Fault`] is the model; [`csv`] is the file format that `fault-tracer` writes and reads.

mod balance;
mod code;
pub mod csv;
pub mod export;
mod fault;
pub mod file;
mod kind;
mod resolve;
mod row;

pub use balance::{Balance, Report};
pub use code::{ElfPlace, LookAtFile};
pub use fault::{Access, Account, Fault};
pub use kind::{permissions, Fate, Kind};
pub use resolve::Resolver;
pub use row::{
    About, Code, Counter, CounterRow, GapRow, Loss, LostRow, Name, Object, Place, ResolvedFault,
    Row, TextRow, ThreadEvent, ThreadRow, ANONYMOUS, EVENTS,
};
