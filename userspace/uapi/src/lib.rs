// SPDX-License-Identifier: GPL-2.0-only

//! The ABI of `/dev/fault_tracer`, for user space.
//!
//! This crate is the very file that the module is compiled with, `uapi/fault_tracer.rs`, and [`names`]: what the
//! bytes of names become. Its test holds `uapi/fault_tracer.h`, the same ABI for C, equal to it.

#![no_std]

extern crate alloc;

pub mod names;

#[path = "../../../uapi/fault_tracer.rs"]
mod fault_tracer;

pub use fault_tracer::*;
