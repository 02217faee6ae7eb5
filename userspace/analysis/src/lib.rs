// SPDX-License-Identifier: GPL-2.0-only

//! What a trace says: pure functions from its rows to data. No sentence is made here, and nothing is drawn.
//!
//! Each analysis takes rows one by one (`add`) and gives its result at the end, so that one pass over a trace
//! feeds all that are wanted. Memory grows with what is counted, not with the faults.
//!
//! | file | answers |
//! |---|---|
//! | `report` | all of these in one pass |
//! | `overview` | how many, of which kind, how long |
//! | `keys`, `filter`, `groups` | which faults, by what |
//! | `spaces` | which address space a fault is of |
//! | `pages` | what a fault is to its page: the first, again, a copy |
//! | `patterns` | in which order pages fault |
//! | `regions` | all that of the mappings of each program |
//! | `executed` | which functions fault when they are executed |
//! | `series` | when |
//! | `standout` | what is worth a look first |
//! | `trends` | the shapes that the faults have, over time, over programs and in memory |
//! | `advice` | what would save faults, and how many |
//! | `diff` | what has changed between traces, and what is chance |
//! | `verdict` | whether the trace is complete |
//! | `tally`, `counts`, `durations`, `bits`, `names` | what these are made of |

pub mod advice;
mod bits;
mod counts;
pub mod diff;
mod durations;
mod executed;
mod filter;
mod groups;
mod keys;
mod names;
mod overview;
mod pages;
mod patterns;
mod regions;
mod report;
mod series;
mod spaces;
mod standout;
mod tally;
#[cfg(test)]
mod testing;
pub mod trends;
mod verdict;

pub use counts::{fault_of, Counts, Powers, POWERS};
pub use durations::{Durations, DurationsByKind};
pub use executed::Executed;
pub use filter::{Filter, FilterError};
pub use groups::{Group, Groups, Order};
pub use keys::{Context, Key, Value};
pub use overview::Overview;
pub use pages::{Blocks, Touch, WINDOW_BYTES};
pub use patterns::Pattern;
pub use regions::{Cost, Program, Region, RegionsFound};
pub use report::{Analysis, Report, Wanted};
pub use series::{Series, STEPS};
pub use spaces::{Origin, Space, Spaces};
pub use standout::{stand_out, StandOut, What};
pub use tally::Tally;
pub use verdict::{DurationCheck, Found, Outcome, Proof, Verdict, Wrong};
