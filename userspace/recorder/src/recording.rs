// SPDX-License-Identifier: GPL-2.0-only

//! A running recording: the records of a session, taken in rounds, in one order of time.

use std::io;

use fault_tracer_client::{Clock, Record, Rings, Session, Timed};
use fault_tracer_trace::Account;

use crate::{collector::Collector, Failure};

/// Where the records of a recording go.
pub trait Sink {
    /// What waits for its place in time.
    type Kept: Timed;

    /// Takes a record as it comes out of its CPU's ring; returns what of it waits for its place in time.
    fn keep(&mut self, cpu: u32, record: Record) -> Option<Self::Kept>;

    /// Takes what has its place in time now.
    ///
    /// # Errors
    ///
    /// Those of writing it.
    fn take(&mut self, cpu: u32, kept: Self::Kept) -> io::Result<()>;

    /// Makes what was taken readable to others.
    ///
    /// # Errors
    ///
    /// Those of writing it.
    fn flush(&mut self) -> io::Result<()>;

    /// Takes it that nothing else comes.
    ///
    /// # Errors
    ///
    /// Those of writing what was waiting for more.
    fn finish(&mut self) -> io::Result<()>;
}

/// A session that records, and where its records go.
pub struct Recording<'a, S: Sink> {
    collector: Collector<'a, S::Kept>,
    sink: S,
}

/// What the module counts of a session, at its end.
#[derive(Clone, Debug)]
pub struct Accounts {
    /// By CPU.
    pub cpus: Vec<(u32, Account)>,
    /// Of all CPUs, and what belongs to none.
    pub all: Account,
    /// Attempts of faults whose return could not be recorded.
    pub missed_returns: u64,
}

impl Accounts {
    /// Counts what came after others, of the same session.
    pub fn count_from(&mut self, before: &Self) {
        for (cpu, account) in &mut self.cpus {
            let of_cpu = before.cpus.iter().find(|(other, _)| other == cpu);
            if let Some((_, before)) = of_cpu {
                account.count_from(before);
            }
        }
        self.all.count_from(&before.all);
        self.missed_returns = self.missed_returns.saturating_sub(before.missed_returns);
    }
}

impl<'a, S: Sink> Recording<'a, S> {
    /// Takes over a session that has been started.
    ///
    /// # Errors
    ///
    /// If the module cannot be asked.
    pub fn new(
        session: &'a Session,
        rings: Rings<'a>,
        clock: Clock,
        sink: S,
    ) -> Result<Self, Failure> {
        Ok(Self {
            collector: Collector::new(session, rings, clock)?,
            sink,
        })
    }

    /// Takes what the rings hold; if it is `due`, all that was recorded before this call is readable then.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub fn round(&mut self, due: bool) -> Result<(), Failure> {
        let Self { collector, sink } = self;
        collector.collect(due, |cpu, record| sink.keep(cpu, record))?;
        self.give_out(false)?;
        if due {
            self.sink.flush().map_err(Failure::Output)?;
        }
        Ok(())
    }

    /// Takes the rest. To be called when the session is stopped or, for one that shall go on, at any time.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub fn take_rest(&mut self) -> Result<(), Failure> {
        let Self { collector, sink } = self;
        collector.collect_rest(|cpu, record| sink.keep(cpu, record))?;
        self.give_out(true)?;
        self.sink.finish().map_err(Failure::Output)
    }

    fn give_out(&mut self, all: bool) -> Result<(), Failure> {
        let Self { collector, sink } = self;
        collector
            .give_out(all, |cpu, kept| sink.take(cpu, kept))
            .map_err(Failure::Output)
    }

    /// What the module counts.
    ///
    /// # Errors
    ///
    /// If the module cannot be asked.
    pub fn accounts(&self) -> anyhow::Result<Accounts> {
        let cpus = self.collector.accounts()?;
        Ok(Accounts {
            all: self.collector.sum(&cpus)?,
            cpus,
            missed_returns: self.collector.missed_returns()?,
        })
    }

    /// The time by a clock of the records, in nanoseconds.
    ///
    /// # Errors
    ///
    /// If the module cannot be asked.
    pub fn time(&self, clock: Clock) -> anyhow::Result<u64> {
        self.collector.time(clock)
    }

    /// Recorded faults that were taken out of the rings before this recording.
    pub fn taken_before(&self) -> u64 {
        self.collector.taken_before()
    }

    /// Records that stand out of their order. Always 0 if the records are true.
    pub fn late(&self) -> u64 {
        self.collector.late()
    }

    /// Where the records go.
    pub fn sink(&self) -> &S {
        &self.sink
    }

    /// Where the records go.
    pub fn sink_mut(&mut self) -> &mut S {
        &mut self.sink
    }

    /// Gives up the session, and leaves where the records went.
    pub fn into_sink(self) -> S {
        self.sink
    }
}
