// SPDX-License-Identifier: GPL-2.0-only

//! How long to sleep between two rounds over the rings.

use std::time::Duration;

/// The fewest nanoseconds from one fault to the next on a CPU, with some reserve: the kernel needs more
/// than twice as many for the cheapest.
const FAULT_NS: u64 = 150;

const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(50);

/// The period of the rounds: short while faults come, long while they do not, and never so long that a
/// burst could fill an empty ring.
#[derive(Debug)]
pub struct Pace {
    period: Duration,
    longest: Duration,
}

impl Pace {
    /// For rings of that many bytes, in which a fault takes `record_bytes`.
    pub fn new(ring_bytes: u64, record_bytes: u64) -> Self {
        let fills = Duration::from_nanos(ring_bytes / record_bytes.max(1) * FAULT_NS);
        Self {
            period: SHORTEST,
            longest: (fills / 2).clamp(SHORTEST, LONGEST),
        }
    }

    /// The time to sleep after a round that found the fullest ring filled to `used` bytes of
    /// `ring_bytes`.
    pub fn after(&mut self, used: u64, ring_bytes: u64) -> Duration {
        if used > ring_bytes / 2 {
            // Hardly keeping up.
            self.period = SHORTEST;
            return Duration::ZERO;
        }
        if used > ring_bytes / 8 {
            self.period /= 2;
        } else if used < ring_bytes / 32 {
            self.period *= 2;
        }
        self.period = self.period.clamp(SHORTEST, self.longest);
        self.period
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RING: u64 = 1 << 24;

    #[test]
    fn quiet_rings_are_looked_at_ever_less_often() {
        let mut pace = Pace::new(RING, 32);
        let mut last = Duration::ZERO;
        for _ in 0..10 {
            let next = pace.after(0, RING);
            assert!(next >= last && next <= LONGEST);
            last = next;
        }
        assert!(last >= Duration::from_millis(39), "{last:?}");
    }

    #[test]
    fn busy_rings_are_looked_at_more_often_and_full_ones_at_once() {
        let mut pace = Pace::new(RING, 32);
        for _ in 0..10 {
            pace.after(0, RING);
        }
        let mut last = LONGEST;
        for _ in 0..10 {
            let next = pace.after(RING / 4, RING);
            assert!(next <= last);
            last = next;
        }
        assert_eq!(last, SHORTEST);
        assert_eq!(pace.after(RING, RING), Duration::ZERO);
        assert!(pace.after(RING / 16, RING) == SHORTEST);
    }

    #[test]
    fn small_rings_are_never_left_alone_for_long() {
        let mut pace = Pace::new(4096, 32);
        for _ in 0..10 {
            assert_eq!(pace.after(0, 4096), SHORTEST);
        }
        assert_eq!(
            Pace::new(1 << 20, 32).longest,
            Duration::from_nanos(32768 * 75)
        );
    }
}
