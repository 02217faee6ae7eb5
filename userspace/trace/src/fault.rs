// SPDX-License-Identifier: GPL-2.0-only

//! A page fault, and the account of those that were recorded and lost.

use fault_tracer_uapi::{fault_flag, FaultRecord};

/// What the faulting access wanted to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Access {
    /// To read.
    #[default]
    Read,
    /// To write.
    Write,
    /// To fetch an instruction.
    Execute,
}

impl Access {
    /// All of them, in the order in which they are reported.
    pub const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Execute];

    /// Its name in files that have room for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Execute => "execute",
        }
    }

    /// Its letter in files: `r`, `w` or `x`.
    pub const fn letter(self) -> char {
        match self {
            Self::Read => 'r',
            Self::Write => 'w',
            Self::Execute => 'x',
        }
    }

    /// The access of a letter, if it is one of the three.
    pub const fn from_letter(letter: char) -> Option<Self> {
        match letter {
            'r' => Some(Self::Read),
            'w' => Some(Self::Write),
            'x' => Some(Self::Execute),
            _ => None,
        }
    }
}

/// One page fault: an entry into the kernel's `handle_mm_fault`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// The session's clock at its entry, in nanoseconds.
    pub time_ns: u64,
    /// The CPU it happened on.
    pub cpu: u32,
    /// Process id in the initial pid namespace.
    pub pid: u32,
    /// Thread id in the initial pid namespace.
    pub tid: u32,
    /// The faulting address.
    pub address: u64,
    /// The user-space instruction pointer.
    pub ip: u64,
    /// What the access wanted to do.
    pub access: Access,
    /// The other flags: bits of [`fault_flag`] but for [`fault_flag::WRITE`] and
    /// [`fault_flag::INSTRUCTION`], which `access` tells; and the number of
    /// [`fault_tracer_uapi::entry`].
    pub flags: u16,
}

/// The flags that `access` stands for.
pub(crate) const ACCESS_FLAGS: u64 = fault_flag::WRITE | fault_flag::INSTRUCTION;

impl Fault {
    /// Reads a record of the module.
    pub const fn from_record(cpu: u32, record: &FaultRecord) -> Self {
        let flags = record.flags();
        Self {
            time_ns: record.time_ns,
            cpu,
            pid: record.pid(),
            tid: record.tid(),
            address: record.address(),
            ip: record.ip(),
            access: if flags & fault_flag::INSTRUCTION != 0 {
                Access::Execute
            } else if flags & fault_flag::WRITE != 0 {
                Access::Write
            } else {
                Access::Read
            },
            // CAST: a record has 16 bits of flags.
            flags: (flags & !ACCESS_FLAGS) as u16,
        }
    }
}

/// What became of the faults that happened: `hits = recorded + dropped + overwritten`, and those `missed` and those
/// `passed_over` besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Faults that the probe saw.
    pub hits: u64,
    /// Of them, those recorded.
    pub recorded: u64,
    /// Of them, those dropped because a ring was full.
    pub dropped: u64,
    /// Of them, those overwritten before they were read.
    pub overwritten: u64,
    /// Faults that the probe did not see, because another probe was running on that CPU.
    pub missed: u64,
    /// Not faults: records of threads' beginnings, names and ends that did not fit.
    pub sideband_dropped: u64,
    /// Not faults: how often the probe was found to be switched off. Faults happened meanwhile that nobody
    /// has counted.
    pub deaf: u64,
    /// Faults that the probe saw and the recording's filter passed over.
    pub passed_over: u64,
}

impl Account {
    /// How many numbers it has.
    pub const COUNTS: usize = 8;

    /// Its numbers and what they are called in files.
    pub fn counts(mut self) -> [(&'static str, u64); Self::COUNTS] {
        self.counts_mut().map(|(name, count)| (name, *count))
    }

    /// As [`Account::counts`], to be set.
    pub(crate) fn counts_mut(&mut self) -> [(&'static str, &mut u64); Self::COUNTS] {
        [
            ("hits", &mut self.hits),
            ("recorded", &mut self.recorded),
            ("dropped", &mut self.dropped),
            ("overwritten", &mut self.overwritten),
            ("missed", &mut self.missed),
            ("sideband_dropped", &mut self.sideband_dropped),
            ("deaf", &mut self.deaf),
            ("passed_over", &mut self.passed_over),
        ]
    }

    /// Counts what came after another account of the same session.
    pub fn count_from(&mut self, before: &Self) {
        for ((_, count), (_, before)) in self.counts_mut().into_iter().zip(before.counts()) {
            *count = count.saturating_sub(before);
        }
    }

    /// Adds the counts of another part of the same recording.
    pub fn add(&mut self, other: &Self) {
        for ((_, count), (_, other)) in self.counts_mut().into_iter().zip(other.counts()) {
            *count = count.saturating_add(other);
        }
    }

    /// Counts recorded faults as passed over: they were read, and are not asked for.
    pub fn leave_out(&mut self, count: u64) {
        self.hits = self.hits.saturating_sub(count);
        self.recorded = self.recorded.saturating_sub(count);
        self.passed_over = self.passed_over.saturating_add(count);
    }

    /// Faults that the probe saw.
    pub const fn seen(&self) -> u64 {
        self.hits.saturating_add(self.passed_over)
    }

    /// Faults that happened and should be in the recording, and are not.
    pub const fn lost(&self) -> u64 {
        self.dropped
            .saturating_add(self.overwritten)
            .saturating_add(self.missed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fault_tracer_uapi as uapi;

    #[test]
    fn a_record_is_read_field_by_field() {
        let flags = fault_flag::WRITE | fault_flag::USER | fault_flag::VMA_LOCK;
        let record = FaultRecord {
            header: 0x3f_fffe
                | 0x12_3456 << uapi::HEADER_TGID_SHIFT
                | flags << uapi::HEADER_FLAGS_SHIFT
                | uapi::record_type::FAULT << uapi::HEADER_TYPE_SHIFT,
            time_ns: 99,
            address_counters: 0x7fff_dead_b000 | 0xab << uapi::ADDRESS_BITS,
            ip_mapping: 0x40_1000 | 0xcd << uapi::ADDRESS_BITS,
        };
        assert_eq!(
            Fault::from_record(3, &record),
            Fault {
                time_ns: 99,
                cpu: 3,
                pid: 0x12_3456,
                tid: 0x3f_fffe,
                address: 0x7fff_dead_b000,
                ip: 0x40_1000,
                access: Access::Write,
                flags: (fault_flag::USER | fault_flag::VMA_LOCK) as u16,
            }
        );
    }

    #[test]
    fn accesses_and_their_letters() {
        for access in Access::ALL {
            assert_eq!(Access::from_letter(access.letter()), Some(access));
        }
        assert_eq!(Access::from_letter('W'), None);
    }

    #[test]
    fn what_is_lost_never_overflows() {
        let account = Account {
            dropped: u64::MAX,
            missed: 1,
            ..Default::default()
        };
        assert_eq!(account.lost(), u64::MAX);
    }
}
