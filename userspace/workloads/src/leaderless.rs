// SPDX-License-Identifier: GPL-2.0-only

//! `leaderless`: a process whose first thread has ended while another goes on.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::exit,
    thread,
    time::Duration,
};

use anyhow::Result;
use clap::Args;

use crate::{
    memory::{Access, Region},
    truth::Truth,
};

#[derive(Args, Clone)]
pub struct Options {
    /// The other thread waits until this file is there, and then touches its pages
    #[arg(long, value_name = "FILE")]
    until: PathBuf,
    /// And ends when this one is there
    #[arg(long, value_name = "FILE")]
    then: PathBuf,
    /// Pages
    #[arg(long, default_value = "50")]
    pages: NonZeroUsize,
}

fn wait_for(file: &Path) {
    while !file.exists() {
        thread::sleep(Duration::from_millis(1));
    }
}

fn go_on(options: &Options, mut truth: Truth) -> Result<()> {
    // The code that touches pages is faulted in before anybody records: only `/proc` tells where it is.
    Region::anonymous(options.pages)?.touch(0, Access::Write);
    wait_for(&options.until);
    let region = Region::anonymous(options.pages)?;
    truth.region(std::process::id(), &region.range());
    for page in 0..region.pages() {
        region.touch(page, Access::Write);
        truth.fault(region.address(page), Access::Write, "user", "zero-fill");
    }
    truth.write()?;
    wait_for(&options.then);
    Ok(())
}

pub fn run(options: &Options, truth: Truth) -> Result<()> {
    let options = options.clone();
    thread::spawn(move || {
        // Ends the process, whose first thread would have given its status.
        exit(i32::from(go_on(&options, truth).is_err()));
    });
    // SAFETY: Ends this thread alone. What lies on its stack stays: nobody else has been given any of it.
    unsafe {
        libc::syscall(libc::SYS_exit, 0);
    }
    unreachable!("the thread has ended");
}
