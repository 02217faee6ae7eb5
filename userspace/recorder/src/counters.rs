// SPDX-License-Identifier: GPL-2.0-only

//! A thread's counters of minor and major faults, of which each fault's record carries the low bits: how far they have risen
//! from one record to the next tells what became of the fault in between.

use fault_tracer_uapi::{self as uapi, FaultRecord};

/// A thread's two counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// The minor-fault counter.
    pub min: u64,
    /// The major-fault counter.
    pub maj: u64,
    /// Whether all bits are known, not only the low ones.
    pub full: bool,
}

impl Counters {
    /// As a fault's record has them: the low bits.
    pub fn low(record: &FaultRecord) -> Self {
        Self {
            min: record.min_flt_low().into(),
            maj: record.maj_flt_low().into(),
            full: false,
        }
    }

    /// As the kernel has them.
    pub fn full(min: u64, maj: u64) -> Self {
        Self {
            min,
            maj,
            full: true,
        }
    }

    /// How far they have risen until `next`: by as many bits as both know.
    pub fn risen(&self, next: &Self) -> (u64, u64) {
        let mask = if self.full && next.full {
            u64::MAX
        } else {
            uapi::COUNTER_MASK
        };
        (
            next.min.wrapping_sub(self.min) & mask,
            next.maj.wrapping_sub(self.maj) & mask,
        )
    }

    /// These, with the bits that only `full` knows: as near to it as can be.
    pub fn completed_by(&self, full: &Self) -> Self {
        if self.full {
            return *self;
        }
        let near = |low: u64, full: u64| {
            let above = low.wrapping_sub(full) & uapi::COUNTER_MASK;
            let below = uapi::COUNTER_MASK + 1 - above;
            if above < below {
                full.wrapping_add(above)
            } else {
                full.wrapping_sub(below)
            }
        };
        Self::full(near(self.min, full.min), near(self.maj, full.maj))
    }

    /// Whether both are known in full and differ by as little as the low bits can tell.
    pub fn is_near(&self, other: &Self) -> bool {
        self.min
            .abs_diff(other.min)
            .max(self.maj.abs_diff(other.maj))
            <= uapi::COUNTER_MASK / 2
    }

    /// Whether one of them is higher than `other`'s.
    pub fn is_ahead_of(&self, other: &Self) -> bool {
        self.min > other.min || self.maj > other.maj
    }

    /// `next`, with the bits that only `self` knows carried on.
    pub fn carried_to(&self, next: &Self) -> Self {
        if next.full || !self.full {
            return *next;
        }
        let (min, maj) = self.risen(next);
        Self::full(self.min.wrapping_add(min), self.maj.wrapping_add(maj))
    }
}
