// SPDX-License-Identifier: GPL-2.0-only

//! Folded stacks: `process;thread;mapping;symbol count`, for flame graphs.
//!
//! The mapping is that of the faulting address, the symbol that of the code that ran.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use super::{Export, Symbol};
use crate::{Code, Fate, Name, Row};

#[derive(Default)]
pub struct Folded {
    counts: BTreeMap<[Option<Name>; 4], u64>,
}

impl Export for Folded {
    fn row(&mut self, row: &Row, symbol: Option<&Symbol>, _: &mut dyn Write) -> io::Result<()> {
        if let Row::Fault(fault) = row {
            if fault.fate != Fate::Retried {
                let place = fault.place.as_ref().map(|place| place.name.clone());
                let symbol = match (symbol, &fault.code) {
                    (Some(symbol), _) => Some(symbol.name.clone()),
                    (None, Some(code)) => Some(unknown_in(code)),
                    (None, None) => None,
                };
                let stack = [fault.process.clone(), fault.thread.clone(), place, symbol];
                *self.counts.entry(stack).or_default() += 1;
            }
        }
        Ok(())
    }

    fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        for (stack, count) in &self.counts {
            let [process, thread, place, symbol] = stack.each_ref().map(frame);
            writeln!(out, "{process};{thread};{place};{symbol} {count}")?;
        }
        Ok(())
    }
}

/// What stands for a symbol that is not known: the name of its object's file.
fn unknown_in(code: &Code) -> Name {
    let name = &*code.object.name;
    let file = name.rsplit('/').next().unwrap_or(name);
    format!("[{}]", file.trim_matches(['[', ']'])).into()
}

/// A name without what separates frames and lines.
fn frame(name: &Option<Name>) -> String {
    let name = name.as_deref().unwrap_or("[unknown]");
    name.replace(';', ":").replace(char::is_control, "?")
}
