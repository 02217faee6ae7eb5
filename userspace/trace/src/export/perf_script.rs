// SPDX-License-Identifier: GPL-2.0-only

//! The text of `perf script` for samples with call chains: a line for the fault, a line for its one frame, an
//! empty line. As perf prints it, which importers rest on: the name not padded, the time in microseconds.
//!
//! Without the faulting address: what stands behind the event's name is a frame to those who parse this.

use std::io::{self, Write};

use super::{Export, Symbol};
use crate::{Fate, Row};

pub struct PerfScript;

impl Export for PerfScript {
    fn row(&mut self, row: &Row, symbol: Option<&Symbol>, out: &mut dyn Write) -> io::Result<()> {
        let Row::Fault(fault) = row else {
            return Ok(());
        };
        let event = match fault.fate {
            Fate::Minor => "minor-faults",
            Fate::Major => "major-faults",
            Fate::Failed | Fate::Unknown => "page-faults",
            // perf counts faults that complete.
            Fate::Retried => return Ok(()),
        };
        let record = &fault.fault;
        let comm = fault
            .thread
            .as_deref()
            .unwrap_or("[unknown]")
            .replace(char::is_control, "?");
        let object = fault
            .code
            .as_ref()
            .map_or("[unknown]", |code| &code.object.name)
            .replace(char::is_control, "?");
        writeln!(
            out,
            "{comm} {:>7}/{:<7} [{:03}] {:>5}.{:06}:          1 {event}: ",
            record.pid,
            record.tid,
            record.cpu,
            record.time_ns / 1_000_000_000,
            record.time_ns % 1_000_000_000 / 1000,
        )?;
        write!(out, "\t{:>16x} ", record.ip)?;
        match symbol {
            Some(Symbol { name, offset }) => {
                let name = name.replace(char::is_control, "?");
                write!(out, "{name}+{offset:#x}")?;
            }
            None => write!(out, "[unknown]")?,
        }
        writeln!(out, " ({object})\n")
    }

    fn end(&mut self, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}
