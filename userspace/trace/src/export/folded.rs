// SPDX-License-Identifier: GPL-2.0-only

//! Folded stacks: `process;thread;mapping count`, for flame graphs.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use super::Export;
use crate::{Fate, Name, Row};

#[derive(Default)]
pub struct Folded {
    counts: BTreeMap<[Option<Name>; 3], u64>,
}

impl Export for Folded {
    fn row(&mut self, row: &Row, _: &mut dyn Write) -> io::Result<()> {
        if let Row::Fault(fault) = row {
            if fault.fate != Fate::Retried {
                let place = fault.place.as_ref().map(|place| place.name.clone());
                let stack = [fault.process.clone(), fault.thread.clone(), place];
                *self.counts.entry(stack).or_default() += 1;
            }
        }
        Ok(())
    }

    fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        for (stack, count) in &self.counts {
            let [process, thread, place] = stack.each_ref().map(frame);
            writeln!(out, "{process};{thread};{place} {count}")?;
        }
        Ok(())
    }
}

/// A name without what separates frames and lines.
fn frame(name: &Option<Name>) -> String {
    let name = name.as_deref().unwrap_or("[unknown]");
    name.replace(';', ":").replace(char::is_control, "?")
}
