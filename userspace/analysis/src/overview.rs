// SPDX-License-Identifier: GPL-2.0-only

//! The totals of a trace.

use fault_tracer_trace::{Access, Fate, Kind, ResolvedFault, Row, ThreadEvent};
use fault_tracer_uapi::fault_flag;

use crate::{
    counts::{Counts, Powers},
    series::Series,
    tally::Tally,
};

/// The totals of some faults.
#[derive(Debug, Default)]
pub struct Overview {
    /// All faults.
    pub counts: Counts,
    /// By [`Kind::ALL`].
    pub kinds: [Counts; Kind::ALL.len()],
    /// Durations by [`Kind::ALL`].
    pub kind_powers: [Powers; Kind::ALL.len()],
    /// By [`Fate::ALL`]. There is none that was retried.
    pub fates: [Counts; Fate::ALL.len()],
    /// By [`Access::ALL`].
    pub accesses: [Counts; Access::ALL.len()],
    /// Processes, threads and attempts.
    pub tally: Tally,
    /// All durations.
    pub powers: Powers,
    /// Faults that the kernel met in user memory, in a system call or on behalf of the process.
    pub by_kernel: u64,
    /// Of them, by `get_user_pages`.
    pub by_gup: u64,
    /// Programs that were executed.
    pub execs: u64,
    /// Programs that were executed, over time.
    pub starts: Series<1>,
    /// Processes that were made.
    pub forks: u64,
    /// Faults over time, and major ones.
    pub rate: Series<2>,
    /// Time of the last fault since the first, in nanoseconds.
    pub span_ns: u64,
    /// Faults of which is known how many pages they mapped beside their own.
    pub with_around: u64,
    /// Those pages.
    pub around: u64,
    /// Faults that the threads' counters show and that are not in the trace, at least.
    pub gaps: u64,
}

impl Overview {
    /// Takes what is counted of rows that are no faults; `start_ns` is the time of the first fault, once it is known.
    pub fn row(&mut self, row: &Row, start_ns: Option<u64>) {
        match row {
            Row::Thread(row) => match row.event {
                ThreadEvent::Exec => {
                    self.execs += 1;
                    let start_ns = start_ns.unwrap_or(row.time_ns);
                    self.starts.add(row.time_ns.saturating_sub(start_ns), 0);
                }
                ThreadEvent::Fork if row.pid == row.tid => self.forks += 1,
                _ => {}
            },
            Row::Gap(row) => self.gaps = self.gaps.saturating_add(row.count),
            _ => {}
        }
    }

    /// Adds a fault at so many nanoseconds since the first one.
    pub fn add(&mut self, fault: &ResolvedFault, time_ns: u64) {
        self.counts.add(fault);
        self.kinds[fault.kind as usize].add(fault);
        self.fates[fault.fate as usize].add(fault);
        self.accesses[fault.fault.access as usize].add(fault);
        self.tally.add(&fault.fault, fault.attempts);
        if let Some(duration_ns) = fault.duration_ns {
            self.powers.add(duration_ns);
            self.kind_powers[fault.kind as usize].add(duration_ns);
        }
        if let Some(around) = fault.around {
            self.with_around += 1;
            self.around = self.around.saturating_add(around.into());
        }
        let flags = u64::from(fault.fault.flags);
        self.by_kernel += u64::from(flags & fault_flag::USER == 0);
        self.by_gup += u64::from(flags & fault_flag::GUP != 0);
        self.rate.add(time_ns, 0);
        if fault.fate == Fate::Major {
            self.rate.add(time_ns, 1);
        }
        self.span_ns = self.span_ns.max(time_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{event, fault};

    #[test]
    fn totals() {
        let mut overview = Overview::default();
        overview.row(&event(ThreadEvent::Exec, 1, 1), None);
        overview.row(&event(ThreadEvent::Fork, 2, 2), None);
        overview.row(&event(ThreadEvent::Fork, 2, 3), None);
        overview.add(&fault().took(100).build(), 0);
        overview.add(
            &fault().pid(2).fate(Fate::Major).kind(Kind::SwapIn).build(),
            9,
        );
        let mut user = fault().access(Access::Read).build();
        user.fault.flags = fault_flag::USER as u16;
        user.around = Some(15);
        overview.add(&user, 4);
        assert_eq!((overview.counts.faults, overview.counts.major), (3, 1));
        assert_eq!((overview.execs, overview.forks), (1, 1));
        assert_eq!((overview.by_kernel, overview.by_gup), (2, 0));
        assert_eq!((overview.with_around, overview.around), (1, 15));
        assert_eq!(overview.kinds[Kind::SwapIn as usize].major, 1);
        assert_eq!(overview.fates[Fate::Minor as usize].faults, 2);
        assert_eq!(overview.accesses[Access::Read as usize].faults, 1);
        assert_eq!(overview.powers.used(), [(6, 1)]);
        assert_eq!(overview.span_ns, 9);
        assert_eq!(overview.rate.steps(), [[3, 1]]);
        assert_eq!(overview.tally.processes(), 2);
    }
}
