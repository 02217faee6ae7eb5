// SPDX-License-Identifier: GPL-2.0-only

//! Times of the trace by the wall clock.

use chrono::DateTime;

use crate::Metadata;

/// Makes times of the trace those of the wall clock, in UTC.
pub struct WallTime {
    offset_ns: i64,
    /// The last second that was written, and its text.
    second: Option<(i64, String)>,
}

impl WallTime {
    pub fn new(metadata: &Metadata) -> Self {
        Self {
            offset_ns: metadata.wall_offset_ns,
            second: None,
        }
    }

    /// Nanoseconds since 1970.
    pub fn since_1970(&self, time_ns: u64) -> i64 {
        // CAST: times fit in 63 bits for 292 years after the boot.
        (time_ns as i64).wrapping_add(self.offset_ns)
    }

    /// As ISO 8601 writes it: `2026-11-26T01:47:03.123456789Z`.
    pub fn text(&mut self, time_ns: u64) -> String {
        let time = self.since_1970(time_ns);
        let (second, nanoseconds) = (
            time.div_euclid(1_000_000_000),
            time.rem_euclid(1_000_000_000),
        );
        // Thousands of faults are of the same second.
        if self.second.as_ref().is_none_or(|(of, _)| *of != second) {
            let date = DateTime::from_timestamp(second, 0).unwrap_or_default();
            self.second = Some((second, date.format("%Y-%m-%dT%H:%M:%S").to_string()));
        }
        let text = self.second.as_ref().map_or("", |(_, text)| text);
        format!("{text}.{nanoseconds:09}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_iso_8601() {
        let mut time = WallTime::new(&Metadata {
            wall_offset_ns: 1_764_121_623_000_000_000,
            ..Metadata::default()
        });
        // date -u -d @1764121623 +%FT%T
        assert_eq!(time.text(5), "2025-11-26T01:47:03.000000005Z");
        assert_eq!(time.text(1_999_999_999), "2025-11-26T01:47:04.999999999Z");
        assert_eq!(time.text(5), "2025-11-26T01:47:03.000000005Z");
        let mut before = WallTime::new(&Metadata {
            wall_offset_ns: -7,
            ..Metadata::default()
        });
        assert_eq!(before.text(0), "1969-12-31T23:59:59.999999993Z");
        assert_eq!(before.since_1970(9), 2);
    }
}
