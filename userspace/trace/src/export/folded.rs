// SPDX-License-Identifier: GPL-2.0-only

//! Folded stacks, for flame graphs: a line for each stack, with what is counted of it.
//!
//! Of recordings without stacks, `process;thread;mapping;symbol count`: the mapping is that of the faulting address, the
//! symbol that of the code that ran. With them, `process;thread;outermost;...;caller;symbol count`.

use std::{
    collections::{BTreeMap, HashSet},
    io::{self, Write},
};

use super::{unknown_in, Caller, Export, Names, Weight, CUT_OFF};
use crate::{Fate, Name, PageSize, ResolvedFault, Row};

pub struct Folded {
    weight: Weight,
    page_size: PageSize,
    counts: BTreeMap<Vec<Name>, Count>,
}

#[derive(Default)]
struct Count {
    sum: u64,
    /// Process and page.
    pages: HashSet<(u32, u64)>,
}

impl Folded {
    pub fn new(weight: Weight, page_size: PageSize) -> Self {
        Self {
            weight,
            page_size,
            counts: BTreeMap::new(),
        }
    }

    fn fault(&mut self, fault: &ResolvedFault, names: &Names) {
        let or_unknown = |name: Option<&Name>| name.cloned().unwrap_or_else(|| "[unknown]".into());
        let mut stack = vec![
            or_unknown(fault.process.as_ref()),
            or_unknown(fault.thread.as_ref()),
        ];
        if names.has_stack {
            stack.extend(names.is_cut.then(|| CUT_OFF.into()));
            stack.extend(names.callers.iter().rev().map(Caller::name));
        } else {
            stack.push(or_unknown(fault.place.as_ref().map(|place| &place.name)));
        }
        stack.push(match (&names.symbol, &fault.code) {
            (Some(symbol), _) => Name::clone(&symbol.name),
            (None, Some(code)) => unknown_in(&code.object.name),
            (None, None) => or_unknown(None),
        });
        let count = self.counts.entry(stack).or_default();
        match self.weight {
            Weight::Faults => count.sum += 1,
            Weight::Time => count.sum += fault.duration_ns.unwrap_or(0),
            Weight::Pages if fault.fate == Fate::Failed => {}
            Weight::Pages => {
                let page = self.page_size.page_of(fault.fault.address);
                count.sum += u64::from(count.pages.insert((fault.fault.pid, page)));
            }
        }
    }
}

impl Export for Folded {
    fn row(&mut self, row: &Row, names: &Names, _: &mut dyn Write) -> io::Result<()> {
        match row {
            Row::Fault(fault) if fault.fate != Fate::Retried => self.fault(fault, names),
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        for (stack, count) in &self.counts {
            if count.sum != 0 {
                let frames: Vec<_> = stack.iter().map(|name| frame(name)).collect();
                writeln!(out, "{} {}", frames.join(";"), count.sum)?;
            }
        }
        Ok(())
    }
}

/// A name without what separates frames and lines.
fn frame(name: &str) -> String {
    name.replace(';', ":").replace(char::is_control, "?")
}
