// SPDX-License-Identifier: GPL-2.0-only

//! A running recording of `drain`: rings in, lines of CSV out.

use std::time::Duration;

use fault_tracer_client::{uapi::FaultRecord, Clock, Record, Rings, Session};
use fault_tracer_trace::{
    csv::{Preamble, Writer},
    Fault,
};

use crate::{
    collector::{Collector, Failure},
    output::Output,
    summary::Ended,
    tally::Tally,
};

/// Lines are written out this often, so that a reader at the other end of a pipe sees them.
pub const PERIOD: Duration = Duration::from_millis(500);

/// A session that records, and the CSV that is being written.
pub struct Recording<'a> {
    collector: Collector<'a, FaultRecord>,
    writer: Writer<&'a mut Output>,
    tally: Tally,
}

/// The side-band is not drained to CSV.
fn faults(_: u32, record: Record) -> Option<FaultRecord> {
    match record {
        Record::Fault(record) => Some(record),
        _ => None,
    }
}

impl<'a> Recording<'a> {
    /// Takes over a session that has been started, and writes the first lines.
    pub fn new(
        session: &'a Session,
        output: &'a mut Output,
        preamble: &Preamble,
    ) -> Result<Self, Failure> {
        // By calls: the session of the module's parameters may have been drained by others before, and
        // may be again.
        let collector = Collector::new(session, Rings::by_call(session)?, Clock::Monotonic)?;
        let writer = output
            .begin()
            .and_then(|()| Writer::new(output, preamble))
            .map_err(Failure::Output)?;
        Ok(Self {
            collector,
            writer,
            tally: Tally::new(),
        })
    }

    /// Takes what the rings hold and writes what is in order; if it is `due`, all that was recorded before.
    pub fn round(&mut self, due: bool) -> Result<(), Failure> {
        self.collector.collect(due, faults)?;
        self.write_merged(false)?;
        if due {
            self.writer.flush().map_err(Failure::Output)?;
        }
        Ok(())
    }

    /// Takes the rest, closes the account and writes it.
    pub fn finish(mut self) -> Result<Ended, Failure> {
        self.collector.collect_rest(faults)?;
        self.write_merged(true)?;
        let account = self.collector.account()?;
        self.writer.finish(&account).map_err(Failure::Output)?;
        Ok(Ended {
            account,
            tally: self.tally,
            taken_before: self.collector.taken_before(),
            late: self.collector.late(),
            stray_returns: 0,
            details: Vec::new(),
        })
    }

    /// Writes what has its place, or all.
    fn write_merged(&mut self, all: bool) -> Result<(), Failure> {
        let Self { writer, tally, .. } = self;
        let write = |cpu: u32, record: FaultRecord| {
            let fault = Fault::from_record(cpu, &record);
            tally.add(&fault);
            writer.write(&fault)
        };
        self.collector.give_out(all, write).map_err(Failure::Output)
    }
}
