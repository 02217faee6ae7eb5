// SPDX-License-Identifier: GPL-2.0-only

//! Nothing is moved: what this program costs to start and to end. The others are compared with it.

use anyhow::Result;

use super::{Cases, Way};
use crate::lab::{Lab, Moved};

pub const WAYS: &[Way] = &[Way {
    name: "nothing",
    cases: Cases::File,
    shows: "the program itself",
    run: nothing,
}];

fn nothing(lab: &Lab) -> Result<Moved> {
    // It is opened, and not read.
    let _ = lab.source()?;
    Ok(Moved::default())
}
