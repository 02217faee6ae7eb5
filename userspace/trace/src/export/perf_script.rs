// SPDX-License-Identifier: GPL-2.0-only

//! The text of `perf script`: a line for the fault, a line for its one frame, an empty line.

use std::io::{self, Write};

use super::Export;
use crate::{Access, Fate, Row};

pub struct PerfScript;

impl Export for PerfScript {
    fn row(&mut self, row: &Row, out: &mut dyn Write) -> io::Result<()> {
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
        // What a data access hits says nothing of where its instruction lies.
        let object = match (&fault.place, record.access) {
            (Some(place), Access::Execute) => place.name.replace(char::is_control, "?"),
            _ => "[unknown]".into(),
        };
        writeln!(
            out,
            "{comm:>16} {:>7}/{:<7} [{:03}] {:>5}.{:09}:          1 {event}: {:>16x}",
            record.pid,
            record.tid,
            record.cpu,
            record.time_ns / 1_000_000_000,
            record.time_ns % 1_000_000_000,
            record.address,
        )?;
        writeln!(out, "\t{:>16x} [unknown] ({object})\n", record.ip)
    }

    fn end(&mut self, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}
