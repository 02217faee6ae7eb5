// SPDX-License-Identifier: GPL-2.0-only

//! The text of `perf script` for samples with call chains: a line for the fault, a line for each frame, an
//! empty line. As perf prints it, which importers rest on: the name not padded, the time in microseconds.
//!
//! All faults are of one event, `page-faults`: programs that read this take the first event that they meet, and leave
//! out all others. What became of a fault is its outermost frame, which all of them take.
//!
//! Without the faulting address: what stands behind the event's name is a frame to those who parse this.

use std::io::{self, Write};

use super::{Export, Names, Symbol};
use crate::{Fate, Row};

/// The event of all faults.
const EVENT: &str = "page-faults";

/// What the outermost frame is said to be in.
const OBJECT: &str = "[page-faults]";

pub struct PerfScript;

impl Export for PerfScript {
    fn row(&mut self, row: &Row, names: &Names, out: &mut dyn Write) -> io::Result<()> {
        let Row::Fault(fault) = row else {
            return Ok(());
        };
        // Addresses that no code has, one for each name: some readers keep one name for an address.
        let (address, fate) = match fault.fate {
            Fate::Minor => (1, "minor-fault"),
            Fate::Major => (2, "major-fault"),
            Fate::Failed => (3, "failed-fault"),
            Fate::Unknown => (4, "unknown-fault"),
            // perf counts faults that complete.
            Fate::Retried => return Ok(()),
        };
        let record = &fault.fault;
        let comm = fault
            .thread
            .as_deref()
            .unwrap_or("[unknown]")
            .replace(char::is_control, "?");
        writeln!(
            out,
            "{comm} {:>7}/{:<7} [{:03}] {:>5}.{:06}:          1 {EVENT}: ",
            record.pid,
            record.tid,
            record.cpu,
            record.time_ns / 1_000_000_000,
            record.time_ns % 1_000_000_000 / 1000,
        )?;
        let object = fault.code.as_ref().map(|code| &*code.object.name);
        write_frame(out, record.ip, names.symbol.as_ref(), object)?;
        for caller in &names.callers {
            let symbol = caller.symbol.as_ref();
            write_frame(out, caller.address, symbol, caller.object.as_deref())?;
        }
        writeln!(out, "\t{address:>16x} {fate} ({OBJECT})\n")
    }

    fn end(&mut self, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

/// A line of a frame.
fn write_frame(
    out: &mut dyn Write,
    address: u64,
    symbol: Option<&Symbol>,
    object: Option<&str>,
) -> io::Result<()> {
    write!(out, "\t{address:>16x} ")?;
    match symbol {
        Some(Symbol { name, offset, .. }) => {
            let name = name.replace(char::is_control, "?");
            write!(out, "{name}+{offset:#x}")?;
        }
        None => write!(out, "[unknown]")?,
    }
    let object = object.unwrap_or("[unknown]");
    writeln!(out, " ({})", object.replace(char::is_control, "?"))
}
