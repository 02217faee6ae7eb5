// SPDX-License-Identifier: GPL-2.0-only

//! `sendfile`: from a file into another or a socket, within the kernel.

use anyhow::Result;
use rustix::fs::sendfile;

use super::{Cases, Way};
use crate::lab::{Lab, Moved};

pub const WAYS: &[Way] = &[Way {
    name: "sendfile",
    cases: Cases::File,
    shows: "sendfile(2) from file to file: no buffer, no fault",
    run: send,
}];

fn send(lab: &Lab) -> Result<Moved> {
    let (from, to) = (lab.source()?, lab.target()?);
    let mut bytes = 0;
    while bytes < lab.bytes {
        bytes += sendfile(&to, &from, None, lab.bytes - bytes)?;
    }
    Ok(Moved::unseen(bytes))
}
