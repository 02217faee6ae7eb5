// SPDX-License-Identifier: GPL-2.0-only

//! What the summary counts while the faults go by.

use fault_tracer_trace::{Access, Fault};
use fault_tracer_uapi::PID_BITS;

/// Counts of faults, processes and threads.
#[derive(Debug)]
pub struct Tally {
    attempts: u64,
    /// By [`Access::ALL`].
    accesses: [u64; Access::ALL.len()],
    processes: Ids,
    threads: Ids,
}

impl Default for Tally {
    fn default() -> Self {
        Self::new()
    }
}

impl Tally {
    /// Nothing yet.
    pub fn new() -> Self {
        Self {
            attempts: 0,
            accesses: [0; Access::ALL.len()],
            processes: Ids::new(),
            threads: Ids::new(),
        }
    }

    /// Counts a fault of so many attempts.
    pub fn add(&mut self, fault: &Fault, attempts: u32) {
        self.attempts += u64::from(attempts);
        self.accesses[fault.access as usize] += 1;
        self.processes.insert(fault.pid);
        self.threads.insert(fault.tid);
    }

    /// All faults.
    pub fn faults(&self) -> u64 {
        self.accesses.iter().sum()
    }

    /// Their attempts.
    pub fn attempts(&self) -> u64 {
        self.attempts
    }

    /// Faults of that access.
    pub fn of(&self, access: Access) -> u64 {
        self.accesses[access as usize]
    }

    /// Different process ids.
    pub fn processes(&self) -> u32 {
        self.processes.count
    }

    /// Different thread ids.
    pub fn threads(&self) -> u32 {
        self.threads.count
    }
}

/// A set of process or thread ids: a bit for each that there can be.
#[derive(Debug)]
struct Ids {
    bits: Vec<u64>,
    count: u32,
}

impl Ids {
    fn new() -> Self {
        Self {
            bits: vec![0; (1 << PID_BITS) / 64],
            count: 0,
        }
    }

    fn insert(&mut self, id: u32) {
        // Ids come from fields of `PID_BITS` bits, so all are found.
        if let Some(word) = self.bits.get_mut(id as usize / 64) {
            let bit = 1 << (id % 64);
            self.count += u32::from(*word & bit == 0);
            *word |= bit;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_count_once() {
        let mut tally = Tally::new();
        for (pid, tid, access) in [
            (7, 7, Access::Read),
            (7, 8, Access::Write),
            (7, 8, Access::Write),
            (4_194_303, 4_194_303, Access::Execute),
        ] {
            let fault = Fault {
                pid,
                tid,
                access,
                ..Fault::default()
            };
            tally.add(&fault, 2);
        }
        assert_eq!((tally.processes(), tally.threads()), (2, 3));
        assert_eq!(Access::ALL.map(|access| tally.of(access)), [1, 2, 1]);
        assert_eq!((tally.faults(), tally.attempts()), (4, 8));
    }
}
