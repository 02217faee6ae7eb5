// SPDX-License-Identifier: GPL-2.0-only

//! `clocked`: faults between two readings of the wall clock.

use std::{num::NonZeroUsize, process::id};

use anyhow::Result;
use clap::Args;
use rustix::time::{clock_gettime, ClockId};

use crate::{
    memory::{Access, Region},
    truth::Truth,
};

#[derive(Args, Clone)]
pub struct Options {
    /// Pages
    #[arg(long, default_value = "100")]
    pages: NonZeroUsize,
}

/// Nanoseconds since 1970.
fn wall() -> i64 {
    let time = clock_gettime(ClockId::Realtime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

pub fn run(options: &Options, mut truth: Truth) -> Result<()> {
    truth.text()?;
    let region = Region::anonymous(options.pages)?;
    truth.region(id(), &region.range());
    for page in 0..region.pages() {
        let before = wall();
        region.touch(page, Access::Write);
        truth.wall(region.address(page), (before, wall()));
    }
    for page in 0..region.pages() {
        truth.fault(region.address(page), Access::Write, "user", "zero-fill");
    }
    truth.write()
}
