// SPDX-License-Identifier: GPL-2.0-only

//! The live side: from the records of a running session to the rows of a trace.
//!
//! The way of a fault, from top to bottom:
//!
//! | file | does |
//! |---|---|
//! | `recording` | asks for the records of a session, round by round, and hands them to a sink |
//! | `collector` | takes the records of all CPUs out of their rings, in one order of time |
//! | `rows` | the sink that makes rows of records and hands them to a consumer |
//! | `resolve` | what a record means: mapping, names, kind, fate, attempts and duration |
//! | `code` | which code an instruction pointer points to |
//! | `counters` | a thread's counters, by which the fate of a fault is known |
//! | `stacks` | the callers of a fault |
//! | `unwind` | the callers that a copy of a stack has |
//! | `files` | the build ids of the files that code is in |
//! | `maps` | what a process had mapped before the recording |

mod code;
mod collector;
mod counters;
mod files;
mod maps;
mod recording;
mod resolve;
mod rows;
mod stacks;
mod unwind;

pub use code::{ElfPlace, LookAtFile};
pub use collector::Failure;
pub use files::Files;
pub use maps::{mapped_code, parse_maps};
pub use recording::{Accounts, Recording, Sink};
pub use resolve::Resolver;
pub use rows::{Consumer, Rows};

#[cfg(test)]
mod file_tests;
