// SPDX-License-Identifier: GPL-2.0-only

//! What people read: sentences and tables made of data. Nothing is computed here that is not said here.

pub mod advise;
pub mod diff;
pub mod durations;
pub mod histogram;
pub mod live;
pub mod numbers;
pub mod progress;
pub mod report;
pub mod report_json;
pub mod stat;
pub mod style;
pub mod summary;
pub mod table;
pub mod top;
pub mod trends;
pub mod verdict;
