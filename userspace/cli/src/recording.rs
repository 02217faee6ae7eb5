// SPDX-License-Identifier: GPL-2.0-only

//! A running recording: rings in, lines of CSV out.

use std::{
    io,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use fault_tracer_client::{settle, uapi, Horizon, Merge, Records, Session, BUFFER_WORDS_MIN};
use fault_tracer_trace::{
    csv::{Preamble, Writer},
    Account, Fault,
};

use crate::{output::Output, tally::Tally};

/// Words of the buffer through which rings are drained: 512 KiB.
const BUFFER_WORDS: usize = 64 * 1024;
const _: () = assert!(BUFFER_WORDS >= BUFFER_WORDS_MIN);

/// Lines are written out at least this often, so that a reader at the other end of a pipe sees them.
const FLUSH_PERIOD: Duration = Duration::from_millis(200);

/// What stopped a recording from going on.
#[derive(Debug)]
pub enum Failure {
    /// The CSV cannot be written.
    Output(io::Error),
    /// The module does not do as it should.
    Module(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Module(error.into())
    }
}

/// A session that records, and the CSV that is being written.
pub struct Recording<'a> {
    session: &'a Session,
    cpus: Vec<u32>,
    ring_bytes: u64,
    /// Faults that were taken out of the rings before.
    taken_before: u64,
    buffer: Vec<u64>,
    merge: Merge,
    horizon: Horizon,
    writer: Writer<&'a mut Output>,
    flushed: Instant,
    tally: Tally,
}

/// A recording that has ended.
#[derive(Debug)]
pub struct Ended {
    /// What became of the faults of the session, as the module counts.
    pub account: Account,
    /// What was written.
    pub tally: Tally,
    /// Recorded faults that an earlier client has taken.
    pub taken_before: u64,
    /// Faults that stand out of their order.
    pub late: u64,
}

impl<'a> Recording<'a> {
    /// Takes over a session that has been started, and writes the first lines.
    pub fn new(
        session: &'a Session,
        output: &'a mut Output,
        preamble: &Preamble,
    ) -> Result<Self, Failure> {
        let mut cpus = Vec::new();
        let mut taken_before = 0;
        for cpu in 0..session.cpus() {
            if let Some(counters) = session.counters(cpu)? {
                cpus.push(cpu);
                taken_before += counters.recorded.saturating_sub(counters.pending);
            }
        }
        let writer = output
            .begin()
            .and_then(|()| Writer::new(output, preamble))
            .map_err(Failure::Output)?;
        Ok(Self {
            session,
            ring_bytes: session.info()?.ring_bytes,
            taken_before,
            buffer: vec![0; BUFFER_WORDS],
            merge: Merge::new(cpus.len() as u32),
            cpus,
            horizon: Horizon::follow().context("no thread can be made")?,
            writer,
            flushed: Instant::now(),
            tally: Tally::new(),
        })
    }

    /// Takes what the rings hold and writes what is in order. Returns the bytes that the fullest ring
    /// held.
    pub fn round(&mut self) -> Result<u64, Failure> {
        let horizon = self.horizon.time();
        let most = self.take_all(horizon)?;
        self.write_merged(false)?;
        if self.flushed.elapsed() >= FLUSH_PERIOD {
            self.writer.flush().map_err(Failure::Output)?;
            self.flushed = Instant::now();
        }
        Ok(most)
    }

    /// Takes the rest, closes the account and writes it. To be called when the session is stopped, or,
    /// for one that shall go on, at any time.
    pub fn finish(mut self) -> Result<Ended, Failure> {
        // What was recorded before this moment is in the rings; a session that is stopped has no more.
        let horizon = settle();
        self.take_all(horizon)?;
        self.write_merged(true)?;
        let mut account = Account {
            missed: self.session.info()?.missed,
            ..Account::default()
        };
        for &cpu in &self.cpus {
            let counters = self
                .session
                .counters(cpu)?
                .with_context(|| format!("CPU {cpu} has gone"))?;
            // What a session that goes on has recorded since is no part of this recording.
            account.hits += counters.hits.saturating_sub(counters.pending);
            account.recorded += counters.recorded.saturating_sub(counters.pending);
            account.dropped += counters.dropped;
            account.overwritten += counters.overwritten;
        }
        if self.session.info()?.state == uapi::state::RUNNING {
            // A fault that is being recorded just now is counted as a hit alone.
            account.hits = account.recorded + account.dropped + account.overwritten;
        }
        self.writer.finish(&account).map_err(Failure::Output)?;
        Ok(Ended {
            account,
            tally: self.tally,
            taken_before: self.taken_before,
            late: self.merge.late(),
        })
    }

    /// Drains each ring until it is empty, but no more than a ring's size, so that one CPU that records
    /// without a pause does not keep the others waiting.
    fn take_all(&mut self, horizon: u64) -> Result<u64, Failure> {
        let mut most = 0;
        for (index, &cpu) in (0..).zip(&self.cpus) {
            let mut bytes = 0;
            while bytes <= self.ring_bytes {
                let drained = self.session.drain_cpu(cpu, &mut self.buffer)?;
                for record in Records::new(drained.words) {
                    self.merge.push(index, record?);
                }
                bytes += size_of_val(drained.words) as u64;
                if drained.emptied {
                    self.merge.caught_up(index, horizon);
                    break;
                }
            }
            most = most.max(bytes);
        }
        Ok(most)
    }

    /// Writes what has its place, or all.
    fn write_merged(&mut self, all: bool) -> Result<(), Failure> {
        let Self {
            merge,
            cpus,
            writer,
            tally,
            ..
        } = self;
        let write = |index: u32, record: &uapi::FaultRecord| {
            let fault = Fault::from_record(cpus[index as usize], record);
            tally.add(&fault);
            writer.write(&fault)
        };
        if all {
            merge.finish(write)
        } else {
            merge.emit(write)
        }
        .map_err(Failure::Output)
    }
}
