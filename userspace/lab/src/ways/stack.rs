// SPDX-License-Identifier: GPL-2.0-only

//! The stack: it grows, a page for each fault, as functions call each other, and never shrinks. What a deep call has touched
//! is there for the next one.

use std::{hint::black_box, thread};

use anyhow::{anyhow, Result};

use super::{Cases, Way};
use crate::lab::{Lab, Moved};

pub const WAYS: &[Way] = &[Way {
    name: "stack",
    cases: Cases::Memory,
    shows: "two deep recursions in a thread: the first one faults, the second does not",
    run: grow,
}];

fn grow(lab: &Lab) -> Result<Moved> {
    let bytes = lab.bytes;
    let thread = thread::Builder::new()
        .stack_size(bytes + (1 << 20))
        .spawn(move || {
            for _ in 0..2 {
                deeper(bytes / (2 * FRAME));
            }
        })?;
    thread
        .join()
        .map_err(|_| anyhow!("the thread has panicked"))?;
    Ok(Moved::unseen(bytes))
}

/// Bytes of a call: no page is smaller.
const FRAME: usize = 4096;

/// Each call has so many bytes of its own on the stack, and some more.
fn deeper(calls: usize) -> u8 {
    let mut page = [0u8; FRAME];
    black_box(&mut page);
    if calls == 0 {
        return page[0];
    }
    deeper(calls - 1).wrapping_add(page[FRAME - 1])
}
