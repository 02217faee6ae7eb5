// SPDX-License-Identifier: GPL-2.0-only

//! Counts over time in a bounded number of steps, whose length doubles when they do not suffice.

/// Steps that there are at most.
pub const STEPS: usize = 64;

/// The first length of a step, in nanoseconds: about a millisecond, a power of two.
const FIRST_STEP_NS: u64 = 1 << 20;

/// Counts of `N` things over time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series<const N: usize> {
    step_ns: u64,
    steps: Vec<[u64; N]>,
}

impl<const N: usize> Default for Series<N> {
    fn default() -> Self {
        Self {
            step_ns: FIRST_STEP_NS,
            steps: Vec::new(),
        }
    }
}

impl<const N: usize> Series<N> {
    /// Counts one of `what` (below `N`) at a time since the beginning, in nanoseconds.
    pub fn add(&mut self, time_ns: u64, what: usize) {
        while time_ns / self.step_ns >= STEPS as u64 {
            self.step_ns = self.step_ns.saturating_mul(2);
            let pairs = self.steps.chunks(2);
            let sum = |pair: &[[u64; N]]| {
                let mut sum = [0; N];
                for step in pair {
                    for (sum, count) in sum.iter_mut().zip(step) {
                        *sum += count;
                    }
                }
                sum
            };
            self.steps = pairs.map(sum).collect();
        }
        let step = (time_ns / self.step_ns) as usize;
        if self.steps.len() <= step {
            self.steps.resize(step + 1, [0; N]);
        }
        self.steps[step][what] += 1;
    }

    /// Length of a step, in nanoseconds.
    pub fn step_ns(&self) -> u64 {
        self.step_ns
    }

    /// The counts of each step from the beginning to the last that has any.
    pub fn steps(&self) -> &[[u64; N]] {
        &self.steps
    }

    /// The counts of `what` in `parts` equal parts of the time from the beginning to a time in nanoseconds. A step counts
    /// in the part in which it begins, what lies behind the end in the last one.
    pub fn parts(&self, what: usize, until_ns: u64, parts: usize) -> Vec<u64> {
        let mut sums = vec![0; parts];
        for (n, step) in self.steps.iter().enumerate() {
            let begin = u128::from(self.step_ns) * n as u128;
            let part = begin * parts as u128 / u128::from(until_ns.max(1));
            sums[(part as usize).min(parts - 1)] += step[what];
        }
        sums
    }

    /// All of `what`, and those in the steps that begin at a time, in nanoseconds, or later.
    pub fn since(&self, time_ns: u64, what: usize) -> (u64, u64) {
        let (mut all, mut late) = (0, 0);
        for (n, step) in self.steps.iter().enumerate() {
            all += step[what];
            if n as u64 * self.step_ns >= time_ns {
                late += step[what];
            }
        }
        (all, late)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_double_and_nothing_is_lost() {
        let mut series = Series::<2>::default();
        for n in 0..1000 {
            series.add(n * FIRST_STEP_NS, (n % 2) as usize);
        }
        assert!(series.steps().len() <= STEPS);
        assert_eq!(series.step_ns(), 16 * FIRST_STEP_NS);
        assert_eq!(series.steps()[0], [8, 8]);
        let sums = series
            .steps()
            .iter()
            .fold([0, 0], |sum, step| [sum[0] + step[0], sum[1] + step[1]]);
        assert_eq!(sums, [500, 500]);
    }

    #[test]
    fn parts_of_the_time() {
        let mut series = Series::<1>::default();
        for time in [0, 0, 5 * FIRST_STEP_NS, 9 * FIRST_STEP_NS] {
            series.add(time, 0);
        }
        assert_eq!(series.parts(0, 20 * FIRST_STEP_NS, 4), [2, 2, 0, 0]);
        assert_eq!(series.parts(0, 10 * FIRST_STEP_NS, 2), [2, 2]);
        assert_eq!(series.parts(0, 0, 2), [2, 2]);
    }

    #[test]
    fn what_comes_late() {
        let mut series = Series::<1>::default();
        assert_eq!(series.since(0, 0), (0, 0));
        for time in [0, 0, 0, 9 * FIRST_STEP_NS] {
            series.add(time, 0);
        }
        // From the sixth of ten steps on.
        assert_eq!(series.since(5 * FIRST_STEP_NS, 0), (4, 1));
    }
}
