// SPDX-License-Identifier: GPL-2.0-only

//! Durations by powers of two, as bpftrace draws them.

use fault_tracer_analysis::Powers;

use super::numbers::grouped;

/// Width of the longest bar.
const BAR: usize = 40;

/// The lines of a histogram; none if it counts nothing.
pub fn lines(powers: &Powers) -> Vec<String> {
    let used = powers.used();
    let most = used.iter().map(|power| power.1).max().unwrap_or(0);
    let bounds: Vec<_> = used
        .iter()
        .map(|(power, count)| {
            let from = if *power == 0 { 0 } else { 1u64 << power };
            (
                unit(from),
                unit(1u64 << (power + 1)),
                grouped(*count),
                *count,
            )
        })
        .collect();
    let width = bounds.iter().map(|bound| bound.2.len()).max().unwrap_or(0);
    bounds
        .into_iter()
        .map(|(from, to, text, count)| {
            // At least one sign for what is there.
            let length = (count as usize * BAR).div_ceil(most.max(1) as usize);
            let bar = "@".repeat(length);
            format!("  [{from:>5}, {to:>5})  {text:>width$}  |{bar:<BAR$}|")
        })
        .collect()
}

/// A power of two of nanoseconds, short: `512`, `1K` (1,024 ns), `2M`.
fn unit(time_ns: u64) -> String {
    match time_ns {
        0..=1023 => time_ns.to_string(),
        1024..=1_048_575 => format!("{}K", time_ns >> 10),
        1_048_576..=1_073_741_823 => format!("{}M", time_ns >> 20),
        _ => format!("{}G", time_ns >> 30),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_counts() {
        let mut powers = Powers::default();
        for (duration, count) in [(600, 20), (3000, 10), (1 << 21, 1)] {
            for _ in 0..count {
                powers.add(duration);
            }
        }
        let lines = lines(&powers);
        assert_eq!(lines.len(), 13);
        assert_eq!(
            lines[0],
            format!("  [  512,    1K)  20  |{}|", "@".repeat(40))
        );
        assert_eq!(
            lines[2],
            format!("  [   2K,    4K)  10  |{:<40}|", "@".repeat(20))
        );
        assert_eq!(lines[12], format!("  [   2M,    4M)   1  |{:<40}|", "@@"));
        assert!(super::lines(&Powers::default()).is_empty());
    }
}
