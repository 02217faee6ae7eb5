// SPDX-License-Identifier: GPL-2.0-only

//! `copy_file_range`: as `sendfile`, and the file system may share the blocks instead of copying them.

use anyhow::Result;
use rustix::fs::copy_file_range;

use super::{Cases, Way};
use crate::lab::{Lab, Moved};

pub const WAYS: &[Way] = &[Way {
    name: "copy-file-range",
    cases: Cases::File,
    shows: "copy_file_range(2) from file to file: no buffer, no fault",
    run: copy,
}];

fn copy(lab: &Lab) -> Result<Moved> {
    let (from, to) = (lab.source()?, lab.target()?);
    let mut bytes = 0;
    while bytes < lab.bytes {
        bytes += copy_file_range(&from, None, &to, None, lab.bytes - bytes)?;
    }
    Ok(Moved::unseen(bytes))
}
