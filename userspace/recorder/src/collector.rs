// SPDX-License-Identifier: GPL-2.0-only

//! Takes the records of all CPUs and gives them out in one order of time.

use std::io;

use anyhow::Context as _;
use fault_tracer_client::{
    settle, uapi, Clock, Merge, Overrun, Record, Records, Rings, Session, Timed,
};
use fault_tracer_trace::Account;
use rustix::process::setpriority_process;

/// What stopped a recording from going on.
#[derive(Debug)]
pub enum Failure {
    /// The output cannot be written.
    Output(io::Error),
    /// The module does not do as it should.
    Module(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Module(error.into())
    }
}

/// The records of a session, of which something is kept until it has its place in time.
pub(crate) struct Collector<'a, T> {
    session: &'a Session,
    rings: Rings<'a>,
    cpus: Vec<u32>,
    /// By index in `cpus`: time of the last record, and slots overwritten behind it.
    seen: Vec<(u64, u64)>,
    ring_bytes: u64,
    taken_before: u64,
    merge: Merge<T>,
    clock: Clock,
    /// What [`settle`] said last.
    horizon: u64,
}

/// When more records than this wait for their place in time, they are given one at once.
const WAITING_MOST: usize = 1 << 17;

/// Lets this thread, and those that it makes, run before the traced ones: among hundreds of runnable
/// threads it would not come to empty the rings in time. It runs little itself.
fn be_preferred() {
    const FIRST: i32 = -20;
    // Without the right to do so (CAP_SYS_NICE), losses are more likely under load, and reported as ever.
    let _ = setpriority_process(None, FIRST);
}

impl<'a, T: Timed> Collector<'a, T> {
    /// Takes over a session that has been started.
    pub fn new(session: &'a Session, rings: Rings<'a>, clock: Clock) -> anyhow::Result<Self> {
        be_preferred();
        let cpus = rings.cpus().to_owned();
        let mut collector = Self {
            session,
            ring_bytes: session.info()?.ring_bytes,
            taken_before: 0,
            // CAST: the number of CPUs is one of the module's `u32`.
            merge: Merge::new(cpus.len() as u32),
            rings,
            seen: vec![(0, 0); cpus.len()],
            cpus,
            clock,
            horizon: 0,
        };
        for (_, account) in collector.accounts()? {
            collector.taken_before += account.recorded;
        }
        Ok(collector)
    }

    /// Takes what the rings hold. `keep` says what of a CPU's record waits for its place in time. With
    /// `all`, what was recorded before this call has that place then.
    pub fn collect(
        &mut self,
        all: bool,
        mut keep: impl FnMut(u32, Record) -> Option<T>,
    ) -> Result<(), Failure> {
        self.take_all(&mut keep)?;
        // To wait for a horizon costs the kernel an RCU grace period: not where nothing happens.
        if self.merge.pending() > if all { 0 } else { WAITING_MOST } {
            self.horizon = settle(self.session, self.clock)?;
            self.take_all(&mut keep)?;
        }
        Ok(())
    }

    /// Takes the rest. To be called when the session is stopped, or, for one that shall go on, at any time.
    pub fn collect_rest(
        &mut self,
        keep: impl FnMut(u32, Record) -> Option<T>,
    ) -> Result<(), Failure> {
        // What was recorded before this moment is in the rings; a session that is stopped has no more.
        self.horizon = settle(self.session, self.clock)?;
        self.take_all(keep)
    }

    /// Takes from each ring until it is empty, but no more than a ring's size, so that one CPU that records
    /// without a pause does not keep the others waiting.
    fn take_all(&mut self, mut keep: impl FnMut(u32, Record) -> Option<T>) -> Result<(), Failure> {
        for (index, &cpu) in self.cpus.iter().enumerate() {
            let mut bytes = 0;
            // CAST: as in `new`.
            let number = index as u32;
            while bytes <= self.ring_bytes {
                let drained = self.rings.take(index)?;
                let (last_ns, gap_slots) = &mut self.seen[index];
                *gap_slots = gap_slots.saturating_add(drained.gap_slots);
                for record in Records::new(drained.words) {
                    let record = record?;
                    let until_ns = record.time_ns();
                    let since_ns = std::mem::replace(last_ns, until_ns);
                    if *gap_slots != 0 {
                        let overrun = Record::Overrun(Overrun {
                            since_ns,
                            until_ns,
                            slots: std::mem::take(gap_slots),
                        });
                        if let Some(kept) = keep(cpu, overrun) {
                            self.merge.push(number, kept);
                        }
                    }
                    if let Some(kept) = keep(cpu, record) {
                        self.merge.push(number, kept);
                    }
                }
                bytes += size_of_val(drained.words) as u64;
                if drained.emptied {
                    self.merge.caught_up(number, self.horizon);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Gives out, in order of time, what has its place, or `all` there is.
    pub fn give_out<E>(
        &mut self,
        all: bool,
        mut out: impl FnMut(u32, T) -> Result<(), E>,
    ) -> Result<(), E> {
        let cpus = &self.cpus;
        let out = |index: u32, kept: T| out(cpus[index as usize], kept);
        if all {
            self.merge.finish(out)
        } else {
            self.merge.emit(out)
        }
    }

    /// The account of each CPU: of the faults that were taken out of its ring and those that were lost.
    /// Faults that the probe missed belong to no CPU.
    pub fn accounts(&self) -> anyhow::Result<Vec<(u32, Account)>> {
        let running = self.session.info()?.state == uapi::state::RUNNING;
        let mut accounts = Vec::with_capacity(self.cpus.len());
        for &cpu in &self.cpus {
            let counters = self
                .session
                .counters(cpu)?
                .with_context(|| format!("CPU {cpu} has gone"))?;
            let mut account = Account {
                // What a session that goes on has recorded since is no part of this recording.
                hits: counters.hits.saturating_sub(counters.pending),
                recorded: counters.recorded.saturating_sub(counters.pending),
                dropped: counters.dropped,
                overwritten: counters.overwritten,
                missed: 0,
                sideband_dropped: counters.sideband_dropped,
                deaf: 0,
                passed_over: counters.passed_over,
            };
            if running {
                // A fault that is being recorded just now is counted as a hit alone.
                account.hits = account.recorded + account.dropped + account.overwritten;
            }
            accounts.push((cpu, account));
        }
        Ok(accounts)
    }

    /// The account of all CPUs whose own are these.
    pub fn sum(&self, accounts: &[(u32, Account)]) -> anyhow::Result<Account> {
        let info = self.session.info()?;
        let mut sum = Account {
            missed: info.missed,
            deaf: info.deaf,
            ..Account::default()
        };
        for (_, account) in accounts {
            sum.hits += account.hits;
            sum.recorded += account.recorded;
            sum.dropped += account.dropped;
            sum.overwritten += account.overwritten;
            sum.sideband_dropped += account.sideband_dropped;
            sum.passed_over += account.passed_over;
        }
        Ok(sum)
    }

    /// The time by a clock of the records, in nanoseconds.
    pub fn time(&self, clock: Clock) -> anyhow::Result<u64> {
        Ok(self.session.time(clock)?.time_ns)
    }

    /// Faults recorded whose return the module could not record.
    pub fn missed_returns(&self) -> anyhow::Result<u64> {
        Ok(self.session.info()?.missed_returns)
    }

    /// Faults that were taken out of the rings before.
    pub fn taken_before(&self) -> u64 {
        self.taken_before
    }

    /// See [`Merge::late`].
    pub fn late(&self) -> u64 {
        self.merge.late()
    }
}
